#include "timer.h"

#include "../common/env.h"
#include "../common/panic.h"
#include "../common/trap.h"
#include "io.h"

#define PIC_MASTER 0x20
#define PIC_SLAVE  0xa0
#define ICW1       0x11 /* edge-triggered, cascaded, ICW4 follows */
#define ICW4_8086  0x01
#define EOI        0x20
#define SLAVE_LINE 2
#define TIMER_LINE 0

#define PIT_CHANNEL0     0x40
#define PIT_CONTROL      0x43
#define PIT_RATE         0x34 /* channel 0, low then high byte, mode 2 */
#define PIT_LATCH        0x00
#define PIT_SLOWEST      0    /* stands for 65536 */
#define PIT_TICK_DIVISOR 119  /* 1193182 Hz / 119: 10 kHz */

static void init_pic(uint16_t port, uint8_t vector, uint8_t cascade)
{
    out8(port, ICW1);
    out8(port + 1, vector);
    out8(port + 1, cascade);
    out8(port + 1, ICW4_8086);
    out8(port + 1, 0xff);
}

static void set_rate(uint16_t divisor)
{
    out8(PIT_CONTROL, PIT_RATE);
    out8(PIT_CHANNEL0, divisor & 0xff);
    out8(PIT_CHANNEL0, divisor >> 8);
}

void timer_init(void)
{
    init_pic(PIC_MASTER, VECTOR_INTERRUPT, 1 << SLAVE_LINE);
    init_pic(PIC_SLAVE, VECTOR_INTERRUPT + 8, SLAVE_LINE);
    set_rate(PIT_SLOWEST);
}

void env_start_ticks(void)
{
    set_rate(PIT_TICK_DIVISOR);
    out8(PIC_MASTER + 1, 0xff & ~(1 << TIMER_LINE));
}

void env_stop_ticks(void)
{
    out8(PIC_MASTER + 1, 0xff);
    set_rate(PIT_SLOWEST);
}

void env_interrupts(bool enabled)
{
    if (enabled)
        asm volatile("sti" ::: "memory");
    else
        asm volatile("cli" ::: "memory");
}

void env_interrupt(uintptr_t vector)
{
    if (vector == VECTOR_INTERRUPT + TIMER_LINE) {
        out8(PIC_MASTER, EOI);
        timer_tick();
    } else if (vector != VECTOR_INTERRUPT + 7) { /* line 7: a spurious interrupt, without EOI */
        panic("an interrupt of a masked line");
    }
}

uint64_t env_read_timer(void)
{
    out8(PIT_CONTROL, PIT_LATCH);
    uint8_t low = in8(PIT_CHANNEL0);
    return in8(PIT_CHANNEL0) << 8 | low;
}
