/* A pool of page frames inside the image, each with a count of its users. A page is handed out zeroed. */
#pragma once
#include <stddef.h>

void pages_init(void);
void pages_reset(void); /* handed out in the first order again; all of them must be free */
void *page_new(void);
void page_hold(void *page); /* does nothing to pages outside of the pool: the user program's text */
void page_drop(void *page);
unsigned page_users(const void *page);
size_t pages_free(void);
