# cython: language_level=3
"""What the guest's time is made of: the costs, the pipeline, the branch predictor, the TLBs and the caches of a processor."""
import numpy

from libc.stdint cimport uint32_t, uint64_t

from hvmx.core.exit.counts cimport REASONS
from hvmx.core.memory.caches cimport CacheModel, caches_of, free_caches, new_caches
from hvmx.core.memory.mmu cimport drop_translations
from hvmx.core.memory.tlb cimport free_model, new_model
from hvmx.core.pipeline.hot cimport begin_hot, hot_blocks, time_by_class
from hvmx.core.pipeline.model cimport load_model, no_overlap
from hvmx.core.pipeline.paths cimport forget_paths
from hvmx.core.pipeline.predictor cimport make_predictor
from hvmx.core.physical_memory cimport PhysicalMemory
from hvmx.core.registers cimport held, up_to
from hvmx.core.state.state cimport *
from hvmx.core.state.timeline cimport begin_timeline, timeline_of

from hvmx.isa import cost_classes

cdef enum:
    LARGEST_COST = 1 << 26      # units: what a block costs then fits its accounting word

cdef uint64_t NEVER = ~<uint64_t>0


cdef class CostModels(PhysicalMemory):
    def set_costs(self, op_costs, exit_costs, walk_reference=0, exception=0, hypercall=0, pv_bounce=0,
                  user_device=0):
        """What everything costs, in units of 1/120 guest cycle: by cost class and by exit reason; absent ones cost one unit
        (classes) or nothing (exits); an exception costs at least one unit; `user_device`: extra cycles when user space (QEMU)
        handles the exit. Instructions then follow each other without overlap: see `set_pipeline`."""
        names = cost_classes()
        unknown = sorted(set(op_costs) - set(names))
        if unknown:
            raise ValueError(f"unknown cost classes: {', '.join(unknown)}")
        cdef list ops = [max(1, up_to(name, op_costs.get(name, 1), LARGEST_COST)) for name in names]
        cdef list exits = [up_to(f"exit {n}", exit_costs.get(n, 0), LARGEST_COST) for n in range(REASONS)]
        cdef uint64_t walk = up_to("walk_reference", walk_reference, LARGEST_COST)
        cdef uint64_t event = up_to("exception", exception, LARGEST_COST)
        cdef uint64_t call = up_to("hypercall", hypercall, LARGEST_COST)
        cdef uint64_t bounce = up_to("pv_bounce", pv_bounce, LARGEST_COST)
        cdef uint64_t device = up_to("user_device", user_device, LARGEST_COST)
        held(self)
        cdef uint32_t[::1] by_class = numpy.array(ops, dtype=numpy.uint32)
        self.exit_costs = numpy.array(exits, dtype=numpy.uint32)
        self.exit_cost_values = self.exit_costs
        self.cpu.exit_cost = &self.exit_cost_values[0]
        self.cpu.walk_cost = <uint32_t>walk
        self.cpu.exception_cost = <uint32_t>max(1, event)  # so that time passes whatever the guest does
        self.cpu.hypercall_cost = <uint32_t>call
        self.cpu.pv_bounce_cost = <uint32_t>bounce
        self.places.user_device_cost = device
        no_overlap(self.cpu, by_class)
        self.cpu.pending |= PEND_FLUSH

    def set_pipeline(self, tables):
        """The pipeline (`hvmx.cost.profile.PipelineTables`) that takes the place of the classes' costs of `set_costs`."""
        held(self)
        load_model(self.cpu, tables)
        self.cpu.pending |= PEND_FLUSH

    def set_predictor(self, *, history_lengths=(), table_entries=1024, target_entries=1024, target_history=0, return_stack=16):
        """A branch predictor: a table of so many entries for each length of history, the entries of the table of indirect
        branches' targets, for how many indirect branches and returns it remembers a target (0: as long as other branches),
        and how many return addresses it does. Without lengths every branch is predicted.
        ValueError for what cannot be."""
        make_predictor(held(self), history_lengths, up_to("table_entries", table_entries, 1 << 16),
                       up_to("target_entries", target_entries, 1 << 16), up_to("target_history", target_history, MOST_TARGETS),
                       up_to("return_stack", return_stack, MOST_RETURNS))
        self.cpu.pending |= PEND_FLUSH  # translated code asks a predictor, or does not

    @property
    def mispredictions(self):
        """Branches that went another way than the predictor said."""
        return self.cpu.mispredictions

    def find_hot(self):
        """From now on, find out where guest cycles go; `hot_blocks` says what has been found. The guest runs slower, and the same."""
        begin_hot(held(self))
        forget_paths(self.cpu)

    def hot_blocks(self):
        """Where the guest's time has gone since `find_hot`, in units of 1/120 guest cycle: under "blocks", for each block of
        code its linear address, width in bits, whether it runs at CPL 3, instructions, time by what held it, and time by the
        pipe that held it; under "others" the last three of blocks for which there was no room; under "waiting" the time
        spent waiting for an interrupt; under "total" all of that. RuntimeError without `find_hot`."""
        if held(self).hot == NULL:
            raise RuntimeError("find_hot() begins the search for hot blocks")
        return hot_blocks(self.cpu)

    def time_by_class(self):
        """{cost class: (instructions, units of 1/120 guest cycle)} since `find_hot`, with mispredicted branches for themselves as
        "misprediction". Where instructions overlap, each has the time by which it moved the clock on. RuntimeError without
        `find_hot`."""
        if held(self).hot == NULL:
            raise RuntimeError("find_hot() begins the search for hot blocks")
        classes, mispredicted = time_by_class(self.cpu)
        names = cost_classes()
        return {names[number]: row for number, row in classes.items()} | {"misprediction": mispredicted}

    def keep_timeline(self):
        """From now on, keep what happens when; `timeline` says it. It makes no difference to the guest."""
        begin_timeline(held(self))

    def timeline(self):
        """(spans, how many more there were for which there was no room): what has happened since `keep_timeline`.

        A structured array, by the beginning: `begin` and `end` in units of 1/120 guest cycle since the machine was made;
        `kind`, `number` and `value` as hvmx.vocabulary.SpanKind has them. RuntimeError without `keep_timeline`.
        """
        if held(self).timeline == NULL:
            raise RuntimeError("keep_timeline() begins a timeline")
        return timeline_of(self.cpu)

    def set_tlb(self, *, data_4k=(64, 4), data_2m=(32, 4), data_1g=(4, 4), code_4k=(128, 8), code_2m=(8, 8),
                second_4k=(1536, 12), second_2m="shared", second_1g=(16, 4), second_hit=0,
                pml4_entries=4, pdpt_entries=4, pd_entries=32, nested_entries=32):
        """The TLBs that decide what is a miss, by default those of a Skylake: (entries, ways) for each size of page.

        "shared": a size has no entries of its own, but those for 4 KiB. (0, 0): there are none. In the first level a
        large page is then held in smaller pieces; in the second it is not held at all. `second_hit` is in units of
        1/CYCLE_FRACTION cycle; the others are the sizes of the paging-structure caches, by the table whose entries they
        hold, and `nested_entries` of that for guest-physical pages. ValueError for what cannot be. All TLBs are then empty.
        """
        sizes = dict(
            data_4k=data_4k, data_2m=data_2m, data_1g=data_1g, code_4k=code_4k, code_2m=code_2m, second_4k=second_4k,
            second_2m=second_2m, second_1g=second_1g, pml4_entries=pml4_entries, pdpt_entries=pdpt_entries,
            pd_entries=pd_entries, nested_entries=nested_entries,
        )
        cdef TlbModel *model = new_model(sizes, up_to("second_hit", second_hit, LARGEST_COST))
        free_model(held(self).tlb_model)
        self.cpu.tlb_model = model
        drop_translations(self.cpu, True)

    def set_caches(self, levels=(), *, line=64, memory=0, prefetched=0, overlapping_stores=1):
        """Model the data caches; without levels, which is the default, every access hits the first one.

        The three levels are (bytes, ways, extra time), what is found in L1 taking none. `memory` is the extra time of
        what is in none of them, and `prefetched` that of the first use of a line that was fetched ahead from there; in
        units of 1/CYCLE_FRACTION cycle. The extra time of a store is divided by `overlapping_stores`. ValueError for
        what cannot be. The caches are then empty, and their counts 0.
        """
        cdef CacheModel *caches = NULL
        if levels:
            levels = [(up_to("a level's bytes", size, NEVER >> 1), up_to("a level's ways", ways, NEVER >> 1),
                       up_to("a level's extra time", beyond, LARGEST_COST)) for size, ways, beyond in levels]
            caches = new_caches(levels, up_to("line", line, NEVER >> 1), up_to("memory", memory, LARGEST_COST),
                                up_to("prefetched", prefetched, LARGEST_COST),
                                up_to("overlapping_stores", overlapping_stores, LARGEST_COST))
        free_caches(caches_of(held(self)))
        self.cpu.caches = caches
        drop_translations(self.cpu, True)

    def cache_hits(self):
        """Where accesses to data found their lines, by level: `l1`, `l2`, `l3`, `memory`; those of page walks with `walk_`
        before it; and as `prefetched` how many of L1's were first uses of lines that were fetched ahead. None where
        caches are not modelled: every access hits the first level then.
        """
        cdef CacheModel *caches = caches_of(self.cpu)
        if caches == NULL:
            return None
        places = ("l1", "l2", "l3", "memory")
        hits = {name: caches.hits[number] for number, name in enumerate(places)}
        hits["prefetched"] = caches.prefetched_hits
        hits.update((f"walk_{name}", caches.walk_hits[number]) for number, name in enumerate(places) if number)
        return hits
