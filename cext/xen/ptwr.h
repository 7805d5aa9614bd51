/* Writes to page tables by ordinary instructions. */
#ifndef HVMX_XEN_PTWR_H
#define HVMX_XEN_PTWR_H

#include "domain.h"

int page_write_begin(struct domain *d, uint32_t error, uint64_t address);
int page_write_end(struct domain *d, uint32_t *vector, uint32_t *error, uint64_t *cr2);

#endif
