/* Event channels and the timer that comes through one. */
#pragma once
void events_init(void);
