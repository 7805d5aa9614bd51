/* Changes of page tables. */
#ifndef HVMX_XEN_MMU_H
#define HVMX_XEN_MMU_H

#include "domain.h"

int new_base(struct domain *d, uint64_t l4);
int64_t xen_mmu_update(struct hvmx_hypercall *call);
int64_t xen_mmuext_op(struct hvmx_hypercall *call);
int64_t xen_update_va_mapping(struct hvmx_hypercall *call);
int64_t xen_vm_assist(struct hvmx_hypercall *call);

#endif
