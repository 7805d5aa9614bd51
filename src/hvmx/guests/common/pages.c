#include "pages.h"

#include "panic.h"
#include "string.h"
#include "x86.h"

#define POOL_PAGES 256

static char pool[POOL_PAGES][PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));
static unsigned short users[POOL_PAGES];
static unsigned short free_list[POOL_PAGES];
static size_t free_count;

static bool in_pool(const void *page)
{
    return (const char *)page >= pool[0] && (const char *)page < pool[POOL_PAGES];
}

static size_t number_of(const void *page)
{
    return ((const char *)page - pool[0]) / PAGE_SIZE;
}

void pages_init(void)
{
    free_count = 0;
    for (size_t i = POOL_PAGES; i-- > 0;)
        free_list[free_count++] = i;
}

void *page_new(void)
{
    if (!free_count)
        panic("out of pages");
    size_t number = free_list[--free_count];
    users[number] = 1;
    return pool[number];
}

void page_hold(void *page)
{
    if (in_pool(page))
        users[number_of(page)]++;
}

/* Zeroing here and not in page_new() keeps it out of the page-fault workload. */
void page_drop(void *page)
{
    if (in_pool(page) && --users[number_of(page)] == 0) {
        memset(page, 0, PAGE_SIZE);
        free_list[free_count++] = number_of(page);
    }
}

unsigned page_users(const void *page)
{
    return users[number_of(page)];
}

void pages_reset(void)
{
    if (free_count != POOL_PAGES)
        panic("not every page was given back");
    pages_init();
}

size_t pages_free(void)
{
    return free_count;
}
