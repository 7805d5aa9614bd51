/* Shapes of three kinds, whose areas are asked for through pointers to functions. */
#include "program.h"

struct shape { word (*area)(const struct shape *); word a, b; };
struct state { uint32_t chance; struct shape shapes[256]; };

static word rectangle(const struct shape *shape)
{
    return shape->a * shape->b;
}

static word triangle(const struct shape *shape)
{
    return shape->a * shape->b / 2;
}

static word square(const struct shape *shape)
{
    return shape->a * shape->a;
}

word run(void *data)
{
    struct state *state = data;
    word sum = 0;
    for (int i = 0; i < 256; i++) {
        uint32_t chance = draw(&state->chance);
        state->shapes[i].area = chance % 3 == 0 ? rectangle : chance % 3 == 1 ? triangle : square;
        state->shapes[i].a = chance >> 8 & 255;
        state->shapes[i].b = chance >> 16 & 255;
    }
    for (int round = 0; round < 12; round++)
        for (int i = 0; i < 256; i++)
            sum += state->shapes[i].area(&state->shapes[i]);
    return sum;
}
