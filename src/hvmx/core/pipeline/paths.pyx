# cython: language_level=3
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from posix.mman cimport MAP_ANONYMOUS, MAP_FAILED, MAP_PRIVATE, PROT_READ, PROT_WRITE, mmap, munmap

from hvmx.core.pipeline.hot cimport *
from hvmx.core.pipeline.scoreboard cimport *
from hvmx.core.state.state cimport *

cdef extern from "states.h" nogil:
    size_t size_of_state(const State *)
    void pack_state(State *, const Pipeline *)
    void unpack_state(const State *, Pipeline *)
    bint same_state(const State *, const State *)
    uint64_t mixed(uint64_t)

cdef enum:
    STATE_BITS = 15
    NODE_BITS = 15
    PATH_BITS = 14             # HOT_PATH_BITS when all paths come by here
    MET_BITS = 16
    ROOM_BYTES = 12 << 20
    ROOM_BYTES_PV = 4 << 20    # a PV domain has a table of frames

# A state that is met for the first time, and the node in it, until the next but one: most such states never come again, and
# would only take the room of those that do. No way and no known path leads to or from here.
cdef struct Passing:
    State state
    Node node
    Way ways[NO_WAY]

# A path that no way is for.
cdef struct Path:
    Node *node
    Op *op
    uint64_t kind
    int64_t cost
    Node *after

cdef enum:
    THROUGH                    # all kinds but BEFORE include the Op's instruction
    BEFORE
    MISPREDICTED
    MISPREDICTED_TAKEN

cdef struct Paths:
    State *empty               # in which nothing is left to complete
    uint64_t forgotten         # how often all was forgotten: what was kept of nodes before that is void
    uint64_t path_mask         # of places in path_table
    State *state_table[1 << STATE_BITS]
    Node *node_table[1 << NODE_BITS]
    Path path_table[1 << HOT_PATH_BITS]
    uint16_t met[1 << MET_BITS] # of states met lately, part of their hash
    Passing passing[2]         # that of Cpu.node, and that of what comes behind it
    Path passing_path
    uint64_t room_used
    uint8_t room[ROOM_BYTES]   # for states and nodes


cdef inline Paths *paths_of(Cpu *cpu) noexcept nogil:
    return <Paths *>cpu.paths


cdef bint make_paths(Cpu *cpu) noexcept nogil:
    # A mapping of its own goes back to the host when the processor goes; of the heap it would leave a hole.
    cdef void *memory = mmap(NULL, sizeof(Paths), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    if memory == MAP_FAILED:
        return False
    cpu.paths = memory
    cpu.time_through = time_through
    cpu.go_through = go_through
    cpu.begin_at = begin_at
    cpu.account_before = account_before
    cpu.take_back = take_back
    forget_paths(cpu)
    return True


cdef void free_paths(Cpu *cpu) noexcept nogil:
    if cpu.paths != NULL:
        munmap(cpu.paths, sizeof(Paths))


cdef uint64_t bytes_of_paths() noexcept nogil:
    return sizeof(Paths)


# --- states and nodes ---------------------------------------------------------------------------------------------------
cdef void forget_paths(Cpu *cpu) noexcept nogil:
    cdef Paths *paths = paths_of(cpu)
    cdef State present, empty
    cdef Op *entry = NULL
    cdef Pipeline nothing
    memset(&nothing, 0, sizeof(Pipeline))
    pack_state(&empty, &nothing)
    present = empty
    if cpu.node != NULL:
        memcpy(&present, cpu.node.state, size_of_state(cpu.node.state))
        entry = cpu.node.entry
    memset(paths.state_table, 0, sizeof(paths.state_table))
    memset(paths.node_table, 0, sizeof(paths.node_table))
    paths.path_mask = (1 << (HOT_PATH_BITS if cpu.hot != NULL else PATH_BITS)) - 1
    memset(paths.path_table, 0, (paths.path_mask + 1) * sizeof(Path))
    paths.room_used = 0
    paths.forgotten += 1
    paths.empty = kept(cpu, &empty)
    cpu.node = &kept(cpu, &present).here
    if entry != NULL:
        begin_at(cpu, entry)


cdef void leave_code(Cpu *cpu) noexcept nogil:
    cpu.node = &cpu.node.state.here


cdef inline bint passes(Paths *paths, const void *place) noexcept nogil:
    """A node or state that is kept in Paths.passing?"""
    return <uint64_t>place - <uint64_t>&paths.passing[0] < sizeof(paths.passing)


cdef inline uint64_t room_for(Cpu *cpu) noexcept nogil:
    return ROOM_BYTES if cpu.pv == NULL else ROOM_BYTES_PV


cdef inline State **place_of(Paths *paths, const State *state) noexcept nogil:
    return &paths.state_table[state.hash >> 20 & ((1 << STATE_BITS) - 1)]


cdef State *kept(Cpu *cpu, const State *state) noexcept nogil:
    """The interned state that is equal to this one."""
    cdef Paths *paths = paths_of(cpu)
    cdef State *found = place_of(paths, state)[0]
    cdef size_t size = size_of_state(state)
    if found != NULL and same_state(found, state):
        return found
    if paths.room_used + size > room_for(cpu):
        forget_paths(cpu)
    found = <State *>&paths.room[paths.room_used]
    paths.room_used += size
    memcpy(found, state, size)
    found.here.state = found
    found.latest = NULL
    place_of(paths, state)[0] = found
    return found


cdef Node *node_in(Cpu *cpu, const Pipeline *value) noexcept nogil:
    """The node at no place in this state, which is kept if it has been met lately, or if all paths are to be known."""
    cdef Paths *paths = paths_of(cpu)
    cdef State *state = &paths.passing[cpu.node.state == &paths.passing[0].state].state
    cdef State *found
    cdef uint16_t *met
    pack_state(state, value)
    met = &paths.met[state.hash >> 8 & ((1 << MET_BITS) - 1)]
    found = place_of(paths, state)[0]
    if found != NULL and same_state(found, state):
        return &found.here
    if cpu.hot == NULL and met[0] != <uint16_t>(state.hash >> 48):
        met[0] = <uint16_t>(state.hash >> 48)
        return &state.here
    return &kept(cpu, state).here


cdef const Timing *timing_of(Op *op) noexcept nogil:
    return &block_of(op).timings[op.number]


cdef inline Node *set_out(Node *node, Op *op, State *state) noexcept nogil:
    """A node from which no way is known yet."""
    cdef uint32_t index
    node.entry = op
    node.state = state
    for index in range(block_of(op).ways):
        ways_of(node)[index].target = NOWHERE
        ways_of(node)[index].next = NULL
        ways_of(node)[index].after = NULL
    return node


cdef Node *node_at(Cpu *cpu, Op *op, State *state) noexcept nogil:
    cdef Paths *paths = paths_of(cpu)
    cdef Node **slot
    cdef Node *node
    cdef uint32_t size
    if passes(paths, state):
        return set_out(&(<Passing *>state).node, op, state)
    slot = &paths.node_table[mixed(<uint64_t>op ^ mixed(<uint64_t>state)) >> 8 & ((1 << NODE_BITS) - 1)]
    node = slot[0]
    if node != NULL and node.entry == op and node.state == state:
        state.latest = node
        return node
    size = sizeof(Node) + block_of(op).ways * sizeof(Way)
    if paths.room_used + size > room_for(cpu):
        cpu.node = &state.here
        forget_paths(cpu)
        return node_at(cpu, op, cpu.node.state)
    node = <Node *>&paths.room[paths.room_used]
    paths.room_used += size
    slot[0] = state.latest = set_out(node, op, state)
    return node


cdef void begin_at(Cpu *cpu, Op *op) noexcept nogil:
    if cpu.node.entry != op:
        cpu.node = node_at(cpu, op, cpu.node.state)


cdef void drain_pipeline(Cpu *cpu) noexcept nogil:
    cdef Pipeline s
    cdef uint32_t units
    if cpu.node.state != paths_of(cpu).empty:
        unpack_state(cpu.node.state, &s)
        units = drain(&s, cpu.model)
        # Only what took time counts: a state that is passed through may be as empty as `empty` and not be known as it, which
        # depends on what was kept, and so on addresses of the host.
        charge(cpu, CHARGE_DRAIN, units != 0, units)
    cpu.node = &paths_of(cpu).empty.here


# --- paths --------------------------------------------------------------------------------------------------------------
cdef Node *take_path(Cpu *cpu, Op *op, uint32_t kind, int64_t *cost, Split *split) noexcept nogil:
    """Run the model from Cpu.node to an Op of its block; the node behind it, at no place. `split` may be NULL."""
    cdef Pipeline s
    cdef Op *entry = cpu.node.entry
    cdef const Timing *timings = block_of(op).timings
    cdef uint32_t number, first = entry.number, last = op.number, course, taken
    cdef uint64_t units = 0
    if split != NULL:
        memset(split, 0, sizeof(Split))
    unpack_state(cpu.node.state, &s)
    if op.len == 0:
        kind = BEFORE          # the Op at the end of a block belongs to no instruction
    for number in range(first, last if kind == BEFORE else last + 1):
        course = COURSE_ON
        if number == last and timings[number].flags & TIMING_CONDITIONAL:
            if kind != MISPREDICTED:
                course = COURSE_TAKEN
        if number == last and kind >= MISPREDICTED:
            course |= COURSE_MISPREDICTED
        taken = step(&s, &timings[number], cpu.model, course)
        units += taken
        if split != NULL:
            settle_pipeline(&s)
            split_step(split, number - first, &s, &timings[number], cpu.model, course & COURSE_MISPREDICTED != 0, taken)
    cost[0] = <int64_t>((units << ACCT_SHIFT) + last - first + (kind != BEFORE))
    settle_pipeline(&s)
    return node_in(cpu, &s)


cdef Path *path_to(Cpu *cpu, Op *op, uint32_t kind) noexcept nogil:
    cdef Node *node = cpu.node
    cdef uint64_t place = mixed(<uint64_t>op ^ mixed(<uint64_t>node ^ kind)) >> 8 & paths_of(cpu).path_mask
    cdef Path *path = &paths_of(cpu).path_table[place]
    cdef int64_t cost = 0
    cdef Node *after
    if not passes(paths_of(cpu), node) and path.node == node and path.op == op and path.kind == kind:
        return path
    after = take_path(cpu, op, kind, &cost, split_of_path(cpu, place) if cpu.hot != NULL else NULL)
    if passes(paths_of(cpu), after) or passes(paths_of(cpu), cpu.node):
        path = &paths_of(cpu).passing_path
    path.node = cpu.node  # another object than `node` if all nodes have been forgotten meanwhile
    path.op = op
    path.kind = kind
    path.cost = cost
    path.after = after
    return path


cdef inline void note(Cpu *cpu, Path *path, int64_t times) noexcept nogil:
    note_path(cpu, cpu.node.entry, split_of_path(cpu, <uint64_t>(path - paths_of(cpu).path_table)), path.cost, times)


cdef inline void follow_path(Cpu *cpu, Op *op, uint32_t kind) noexcept nogil:
    cdef Path *path = path_to(cpu, op, kind)
    if cpu.hot != NULL:
        note(cpu, path, 1)
    cpu.acct += path.cost
    cpu.node = path.after


cdef void account_before(Cpu *cpu, Op *op) noexcept nogil:
    if op.number != cpu.node.entry.number:
        follow_path(cpu, op, BEFORE)
    else:
        if cpu.hot != NULL:
            note_place(cpu, op)
        leave_code(cpu)


cdef void account_mispredicted(Cpu *cpu, Op *op, bint taken) noexcept nogil:
    follow_path(cpu, op, MISPREDICTED_TAKEN if taken else MISPREDICTED)


cdef int64_t cost_before(Cpu *cpu, Op *op) noexcept nogil:
    return path_to(cpu, op, BEFORE).cost if op.number != cpu.node.entry.number else 0


cdef int64_t cost_through(Cpu *cpu, Op *op) noexcept nogil:
    return path_to(cpu, op, THROUGH).cost


cdef void take_back(Cpu *cpu, Op *op) noexcept nogil:
    begin_at(cpu, op)
    if cpu.hot != NULL:
        note(cpu, path_to(cpu, op, THROUGH), -1)
    cpu.acct -= cost_through(cpu, op)


cdef void time_through(Cpu *cpu, Op *op) noexcept nogil:
    cdef uint64_t forgotten = paths_of(cpu).forgotten
    cdef Way *way = &ways_of(cpu.node)[op.way]
    cdef Node *after
    cdef int64_t cost = 0
    if op.way == NO_WAY or cpu.hot != NULL:
        follow_path(cpu, op, THROUGH)
        return
    after = take_path(cpu, op, THROUGH, &cost, NULL)
    if paths_of(cpu).forgotten == forgotten and not passes(paths_of(cpu), after):
        way.cost = cost
        way.after = after
    cpu.acct += cost
    cpu.node = after


cdef void go_through(Cpu *cpu, Op *op, Op *target) noexcept nogil:
    cdef uint64_t forgotten = paths_of(cpu).forgotten
    cdef Way *way = &ways_of(cpu.node)[op.way]
    account(cpu, op)
    begin_at(cpu, target)
    if op.way != NO_WAY and cpu.hot == NULL and paths_of(cpu).forgotten == forgotten and not passes(paths_of(cpu), cpu.node):
        way.target = target
        way.next = cpu.node


cdef Op *first_due(Cpu *cpu, Op *op, int64_t end) noexcept nogil:
    cdef Pipeline s
    cdef const Block *block = block_of(op)
    cdef int64_t acct = cpu.acct
    cdef uint32_t number = op.number
    unpack_state(cpu.node.state, &s)
    if block.timings[number].flags & TIMING_REPEATED:  # it ends with one element; with more left it comes back by itself
        acct += <int64_t>element_time(&block.timings[number], cpu.model, cpu.rflags & FL_DF != 0) << ACCT_SHIFT
    while True:
        acct += (<int64_t>step(&s, &block.timings[number], cpu.model, COURSE_ON) << ACCT_SHIFT) + 1
        while op.number == number and op.len:
            op += 1
        if not op.len or acct >= end:
            return op
        number = op.number
