/* What this domain got from Xen. */
#pragma once
#include "xen.h"

extern const struct xen_start_info *start_info;
extern volatile struct xen_shared_info *shared_info;

/* Maps a machine frame in place of a page of the image, whose own frame is not used any more. */
void map_machine_frame(void *window, unsigned long frame);

unsigned long machine_frame(const void *page);
