/* Four bodies that attract each other: scalar doubles with divisions and square roots. */
#include "program.h"
#include <emmintrin.h>

struct body { double position[3], speed[3], mass; };

static inline double root(double x)
{
    return _mm_cvtsd_f64(_mm_sqrt_sd(_mm_set_sd(0), _mm_set_sd(x)));
}

word run(void *data)
{
    struct body *bodies = data;
    double sum = 0;
    for (int i = 0; i < 4; i++) {
        for (int axis = 0; axis < 3; axis++) {
            bodies[i].position[axis] = (i + 1) * (axis + 2) % 5;
            bodies[i].speed[axis] = (i - axis) * 0.125;
        }
        bodies[i].mass = i + 1;
    }
    for (int step = 0; step < 150; step++) {
        for (int i = 0; i < 4; i++)
            for (int j = i + 1; j < 4; j++) {
                double distance[3], square = 0.01;
                for (int axis = 0; axis < 3; axis++) {
                    distance[axis] = bodies[i].position[axis] - bodies[j].position[axis];
                    square += distance[axis] * distance[axis];
                }
                double force = 0.001 / (square * root(square));
                for (int axis = 0; axis < 3; axis++) {
                    bodies[i].speed[axis] -= distance[axis] * bodies[j].mass * force;
                    bodies[j].speed[axis] += distance[axis] * bodies[i].mass * force;
                }
            }
        for (int i = 0; i < 4; i++)
            for (int axis = 0; axis < 3; axis++)
                bodies[i].position[axis] += bodies[i].speed[axis] * 0.001;
    }
    for (int i = 0; i < 4; i++)
        sum += bodies[i].position[0] + bodies[i].speed[2];
    return (word)(int64_t)(sum * 1048576);
}
