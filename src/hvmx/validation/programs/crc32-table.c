/* The CRC-32 of Ethernet of 4 KB, by a table that is made first. */
#include "program.h"

struct state { uint32_t table[256]; uint8_t text[4096]; };

word run(void *data)
{
    struct state *state = data;
    uint32_t crc = 0xffffffff;
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t value = i;
        for (int bit = 0; bit < 8; bit++)
            value = value >> 1 ^ (0xedb88320 & -(value & 1));
        state->table[i] = value;
    }
    for (int i = 0; i < 4096; i++)
        state->text[i] = i * 7 ^ i >> 5;
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < 4096; i++)
            crc = state->table[(crc ^ state->text[i]) & 255] ^ crc >> 8;
    return ~crc;
}
