/* Quicksort of 1000 numbers, with insertion for what is short. */
#include "program.h"

struct state { uint32_t chance; int32_t values[1000]; };

static void sort(int32_t *values, int count)
{
    while (count > 12) {
        int32_t pivot = values[count / 2];
        int left = 0, right = count - 1;
        for (;;) {
            while (values[left] < pivot)
                left++;
            while (values[right] > pivot)
                right--;
            if (left >= right)
                break;
            int32_t other = values[left];
            values[left++] = values[right];
            values[right--] = other;
        }
        sort(values + right + 1, count - right - 1);
        count = right + 1;
    }
    for (int i = 1; i < count; i++) {
        int32_t value = values[i];
        int at = i;
        for (; at > 0 && values[at - 1] > value; at--)
            values[at] = values[at - 1];
        values[at] = value;
    }
}

word run(void *data)
{
    struct state *state = data;
    word sum = 0;
    for (int i = 0; i < 1000; i++)
        state->values[i] = draw(&state->chance);
    sort(state->values, 1000);
    for (int i = 0; i < 1000; i++)
        sum = sum * 31 + (uint32_t)state->values[i];
    return sum;
}
