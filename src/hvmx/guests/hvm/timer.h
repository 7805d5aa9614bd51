/* The interrupt controllers (8259A) and the timer (8254). */
#pragma once
void timer_init(void);
