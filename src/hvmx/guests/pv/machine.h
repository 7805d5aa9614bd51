/* What Xen gave this domain. */
#pragma once
#include "xen.h"

extern const struct xen_start_info *start_info;
extern volatile struct xen_shared_info *shared_info;

/* Maps a machine frame over a page of the image, whose own frame nobody needs then. */
void map_machine_frame(void *window, unsigned long frame);

unsigned long machine_frame(const void *page);
