/* The CRC-32 of 1 KB, bit by bit. */
#include "program.h"

word run(void *data)
{
    uint8_t *text = data;
    uint32_t crc = 0xffffffff;
    for (int i = 0; i < 1024; i++)
        text[i] = i * 5 ^ i >> 3;
    for (int i = 0; i < 1024; i++) {
        crc ^= text[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (0xedb88320 & -(crc & 1));
    }
    return ~crc;
}
