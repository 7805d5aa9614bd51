/* GDT, LDT and segment registers of a domain. */
#ifndef HVMX_XEN_DESCRIPTORS_H
#define HVMX_XEN_DESCRIPTORS_H

#include "domain.h"

uint32_t load_code_segment(struct domain *d, uint16_t selector);
uint32_t load_stack_segment(struct domain *d, uint16_t selector);
int64_t set_ldt(struct domain *d, uint64_t base, uint64_t entries);
void drop_ldt_pages(struct domain *d);
int ldt_fault(struct domain *d, uint64_t *cr2);
int64_t xen_set_gdt(struct hvmx_hypercall *call);
int64_t xen_update_descriptor(struct hvmx_hypercall *call);
int64_t xen_set_segment_base(struct hvmx_hypercall *call);

#endif
