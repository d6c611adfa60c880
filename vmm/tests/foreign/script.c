/*
 * The scripted personality of the tests as a provider in a shared object, written against pico.h alone: no library, so that
 * it loads into a program without one. Its calls and their numbers are those of personality/mod.rs.
 *
 * What happens is written as records to the descriptor that the parameters name ("events=N"). A second word makes it
 * misbehave at registration: "refuse", "small", "version", "hole"; "handover" registers a table that only hands over.
 */
#include "pico.h"

#define CODE 0x400000ull
#define DATA 0x500000ull
#define STACK 0x7f00000000ull
#define AREA 0x10000ull
#define UNHANDLED 0x6f00000000ull
#define FORKED_START 0x60000000ull
#define FORKED_END 0x80000000ull
#define PAGE 4096ull

/* The host's calls that a program without a library needs. */

static long host_call(long number, long a, long b, long c, long d)
{
    register long r10 __asm__("r10") = d;
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
    return result;
}

#define HOST_WRITE 1
#define HOST_YIELD 24
#define HOST_FUTEX 202
#define FUTEX_WAIT_PRIVATE 128
#define FUTEX_WAKE_PRIVATE 129

void *memcpy(void *to, const void *from, size_t bytes)
{
    void *start = to;
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
    return start;
}

void *memset(void *to, int value, size_t bytes)
{
    void *start = to;
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(bytes) : "a"(value) : "memory");
    return start;
}

/* One lock for everything: nothing is called under it but write. */

static int locked;

static void lock(void)
{
    while (__atomic_exchange_n(&locked, 1, __ATOMIC_ACQUIRE))
        host_call(HOST_YIELD, 0, 0, 0, 0);
}

static void unlock(void)
{
    __atomic_store_n(&locked, 0, __ATOMIC_RELEASE);
}

/* A constructor shows that code of the object ran. */

#ifdef WITNESS
__attribute__((constructor)) static void witness(void)
{
    host_call(HOST_WRITE, WITNESS, (long)"c", 1, 0);
}
#endif

/* What happens. */

enum kind { NOTE, EXCEPTION, UNHANDLED_CHANCE, IO_FAULT, KICK, EXIT, THREAD_END, PROCESS_END, LOG, GIVEN_BACK, TERMINATE };

static long events = -1;
static uint32_t ended;

static void push_locked(uint64_t kind, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    uint64_t record[5] = {kind, a, b, c, d};
    host_call(HOST_WRITE, events, (long)record, sizeof record, 0);
}

static void push(uint64_t kind, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    lock();
    push_locked(kind, a, b, c, d);
    unlock();
}

/* Processes and threads: places in two pools. */

struct process {
    int used;
    PicoProcess *object; /* our reference, until it ends */
};

struct thread {
    int used;
    struct process *process;
    uint64_t handler;
    PicoRegisters trapped;
    uint64_t number;
};

static struct process processes[256];
static struct thread threads[256];
static uint64_t threads_made;
static PicoThread *forked;
static const PicoRoutines *routines;
static PicoHost *host;

static struct process *new_process(void)
{
    struct process *found = 0;
    lock();
    for (unsigned i = 0; i < sizeof processes / sizeof *processes && !found; i++) {
        if (!processes[i].used) {
            found = &processes[i];
            *found = (struct process){.used = 1};
        }
    }
    unlock();
    return found;
}

static struct thread *new_thread(struct process *process)
{
    struct thread *found = 0;
    lock();
    for (unsigned i = 0; i < sizeof threads / sizeof *threads && !found; i++) {
        if (!threads[i].used) {
            found = &threads[i];
            *found = (struct thread){.used = 1, .process = process, .number = ++threads_made};
        }
    }
    unlock();
    return found;
}

/* Makes a process, which is not told to anybody yet. */
static struct process *make_process(PicoProcess *parent, uint64_t flags)
{
    struct process *process = new_process();
    if (!process)
        return 0;
    PicoProcessAttributes attributes = {.size = sizeof attributes, .parent = parent, .context = process, .flags = flags};
    PicoProcess *object;
    if (routines->CreateProcess(host, &attributes, &object) != PICO_OK) {
        process->used = 0;
        return 0;
    }
    lock();
    process->object = object;
    unlock();
    return process;
}

static PicoThread *make_thread(struct process *process, const PicoRegisters *registers)
{
    struct thread *thread = new_thread(process);
    if (!thread)
        return 0;
    PicoThreadAttributes attributes = {
        .size = sizeof attributes, .process = process->object, .context = thread, .registers = *registers};
    PicoThread *object;
    if (routines->CreateThread(host, &attributes, &object) == PICO_OK)
        return object;
    thread->used = 0;
    return 0;
}

/* Starts a thread, and forgets it. */
static int set_off(PicoThread *thread)
{
    if (!thread)
        return 0;
    int started = routines->StartThread(thread) == PICO_OK;
    routines->ReleaseThread(thread);
    return started;
}

/* Settles what a fork has left to faults. */
static int resolve(PicoProcess *process, uint64_t address)
{
    PicoPage page = {.size = sizeof page};
    if (address < FORKED_START || address >= FORKED_END || routines->QueryPage(process, address, &page) != PICO_OK)
        return 0;
    if (page.state == PICO_PAGE_COPY_ON_WRITE && page.access & PICO_WRITE)
        return routines->BreakCopy(process, address) == PICO_OK;
    if (page.state == PICO_PAGE_ABSENT)
        return routines->MapMemory(process, address & ~(PAGE - 1), PAGE, PICO_READ | PICO_WRITE) == PICO_OK;
    /* Another thread was faster. */
    return page.state == PICO_PAGE_MAPPED && page.access & PICO_WRITE;
}

static int fork_process(struct process *parent, PicoRegisters registers)
{
    struct process *child = make_process(parent->object, PICO_CLONE_PARENT);
    PicoThread *thread = child ? make_thread(child, &registers) : 0;
    lock();
    forked = thread;
    unlock();
    return thread != 0;
}

static void wait_for_ends(uint64_t count)
{
    for (;;) {
        uint32_t now = __atomic_load_n(&ended, __ATOMIC_ACQUIRE);
        if (now >= count)
            return;
        host_call(HOST_FUTEX, (long)&ended, FUTEX_WAIT_PRIVATE, now, 0);
    }
}

/* The callbacks. */

static uint64_t log_bytes(PicoProcess *process, uint64_t address, uint64_t length)
{
    uint8_t bytes[4096];
    uint64_t count = length < sizeof bytes ? length : sizeof bytes;
    if (routines->ReadMemory(process, address, bytes, count) != PICO_OK)
        return -1;
    lock();
    push_locked(LOG, count, 0, 0, 0);
    host_call(HOST_WRITE, events, (long)bytes, (long)count, 0);
    unlock();
    return count;
}

static PicoDisposition dispatch_system_call(void *context, PicoFrame *frame)
{
    struct thread *thread = context;
    PicoProcess *process = thread->process->object;
    PicoRegisters *r = &frame->registers;
    uint64_t result = 0;
    switch (r->rax) {
    case 0:
        push(EXIT, r->rdi, 0, 0, 0);
        return PICO_EXIT;
    case 1:
        result = log_bytes(process, r->rdi, r->rsi);
        break;
    case 2:
        result = routines->MapMemory(process, r->rdi, r->rsi, r->rdx & 7) == PICO_OK ? 0 : -1ull;
        break;
    case 3:
        result = routines->UnmapMemory(process, r->rdi, r->rsi) == PICO_OK ? 0 : -1ull;
        break;
    case 4:
        thread->handler = r->rdi;
        break;
    case 5: {
        PicoRegisters start = {.rip = r->rdi, .rsp = r->rsi, .rdi = r->rdx};
        result = set_off(make_thread(thread->process, &start)) ? 0 : -1ull;
        break;
    }
    case 6:
        if (routines->SetThreadDescriptorBase(frame, PICO_BASE_FS, r->rdi) != PICO_OK ||
            routines->SetThreadDescriptorBase(frame, PICO_BASE_GS, r->rsi) != PICO_OK)
            result = -1;
        break;
    case 7:
        push(NOTE, r->rdi, 0, 0, 0);
        break;
    case 8: {
        uint64_t skip = r->rdi;
        *r = thread->trapped;
        r->rip += skip;
        return PICO_RESUME;
    }
    case 9: {
        uint64_t words[6] = {r->rip, r->rsp, r->rflags, r->rcx, r->r11, r->rax};
        result = routines->WriteMemory(process, r->rdi, words, sizeof words) == PICO_OK ? 0 : -1ull;
        break;
    }
    case 10: {
        PicoRegisters start = *r;
        start.rip = r->rdi;
        result = fork_process(thread->process, start) ? 0 : -1ull;
        break;
    }
    case 11: {
        lock();
        PicoThread *child = forked;
        forked = 0;
        unlock();
        result = set_off(child) ? 0 : -1ull;
        break;
    }
    case 12:
        wait_for_ends(r->rdi);
        break;
    default:
        result = -1;
    }
    r->rax = result;
    return PICO_RETURN;
}

static PicoDisposition dispatch_exception(void *context, const PicoExceptionRecord *record, PicoFrame *frame)
{
    struct thread *thread = context;
    PicoRegisters *r = &frame->registers;
    uint64_t rip = r->rip;
    if (record->vector == 14 && resolve(thread->process->object, record->address))
        return PICO_RESUME;
    if (rip == UNHANDLED) {
        push(UNHANDLED_CHANCE, record->chance, 0, 0, 0);
        return PICO_NOT_HANDLED;
    }
    push(EXCEPTION, record->vector, record->error, record->address, rip);
    if (!thread->handler)
        return PICO_EXIT;
    thread->trapped = *r;
    r->rflags &= ~0x100ull;
    r->rdi = record->vector;
    r->rsi = record->error;
    r->rdx = record->address;
    r->rcx = rip;
    r->rip = thread->handler;
    return PICO_RESUME;
}

static PicoDisposition dispatch_kick(void *context, PicoFrame *frame)
{
    (void)context, (void)frame;
    push(KICK, 0, 0, 0, 0);
    return PICO_RESUME;
}

static void exit_thread(void *context, uint32_t reason)
{
    (void)context;
    push(THREAD_END, reason, 0, 0, 0);
}

static void exit_process(void *context, uint32_t reason)
{
    struct process *process = context;
    lock();
    PicoProcess *object = process->object;
    process->object = 0;
    __atomic_add_fetch(&ended, 1, __ATOMIC_RELEASE);
    push_locked(PROCESS_END, reason, 0, 0, 0);
    unlock();
    host_call(HOST_FUTEX, (long)&ended, FUTEX_WAKE_PRIVATE, 0x7fffffff, 0);
    routines->ReleaseProcess(object);
}

/* Our reference to a process that has not ended, or null. */
static PicoProcess *living(struct process *process)
{
    lock();
    PicoProcess *object = process->object;
    if (object)
        routines->ReferenceProcess(object);
    unlock();
    return object;
}

static void terminate_process(void *context)
{
    push(TERMINATE, 0, 0, 0, 0);
    PicoProcess *object = living(context);
    if (object) {
        routines->TerminateProcess(object);
        routines->ReleaseProcess(object);
    }
}

static int32_t dispatch_io_fault(void *context, uint64_t address, uint32_t access)
{
    (void)access;
    PicoProcess *object = living(context);
    push(IO_FAULT, address, 0, 0, 0);
    int settled = object && resolve(object, address);
    routines->ReleaseProcess(object);
    return settled;
}

static void walk_user_stack(void *context, const PicoRegisters *registers, PicoVisitor *visitor)
{
    struct thread *thread = context;
    PicoProcess *object = living(thread->process);
    if (object) {
        routines->WalkFramePointers(object, registers, visitor);
        routines->ReleaseProcess(object);
    }
}

static uint64_t answer(char *to, uint64_t capacity, const char *bytes, uint64_t length)
{
    uint64_t count = length < capacity ? length : capacity;
    memcpy(to, bytes, count);
    return count;
}

static uint64_t process_name(void *context, char *name, uint64_t capacity)
{
    (void)context;
    return answer(name, capacity, "script", 6);
}

static uint64_t process_command(void *context, char *command, uint64_t capacity)
{
    (void)context;
    return answer(command, capacity, "script\0--test", 14);
}

static uint64_t thread_name(void *context, char *name, uint64_t capacity)
{
    (void)context;
    return answer(name, capacity, "actor", 5);
}

static uint64_t thread_number(void *context)
{
    return ((struct thread *)context)->number;
}

static void process_details(void *context, PicoProcessDetails *details)
{
    struct process *process = context;
    details->number = 1000 + (uint64_t)(process - processes);
    lock();
    details->activity = process->object ? PICO_RUNNING : PICO_ENDED;
    unlock();
}

/* A process of this personality may look at others; the host may do everything but write. */
static uint32_t open_process(void *context, void *opener, uint32_t wanted)
{
    (void)context;
    return opener ? wanted & PICO_PROCESS_QUERY : wanted & ~PICO_PROCESS_VM_WRITE;
}

static uint32_t open_thread(void *context, void *opener, uint32_t wanted)
{
    (void)context;
    return opener ? wanted & PICO_THREAD_QUERY : wanted;
}

static void release_process(void *context)
{
    ((struct process *)context)->used = 0;
    push(GIVEN_BACK, 0, 0, 0, 0);
}

static void release_thread(void *context)
{
    ((struct thread *)context)->used = 0;
    push(GIVEN_BACK, 1, 0, 0, 0);
}

/* A request: the first thread's rdi, and the payload. */
static PicoStatus start(const void *request, uint64_t length)
{
    uint64_t rdi;
    if (length <= sizeof rdi)
        return PICO_FAILED;
    memcpy(&rdi, request, sizeof rdi);
    const uint8_t *payload = (const uint8_t *)request + sizeof rdi;
    uint64_t bytes = length - sizeof rdi, pages = (bytes + PAGE - 1) & ~(PAGE - 1);
    struct process *process = make_process(0, 0);
    if (!process)
        return PICO_FAILED;
    PicoProcess *object = process->object;
    PicoRegisters registers = {.rip = CODE, .rsp = STACK - 256, .rdi = rdi};
    if (routines->MapMemory(object, CODE, pages, PICO_READ | PICO_EXECUTE) != PICO_OK ||
        routines->PokeMemory(object, CODE, payload, bytes) != PICO_OK ||
        routines->MapMemory(object, DATA, AREA, PICO_READ | PICO_WRITE) != PICO_OK ||
        routines->MapMemory(object, STACK - AREA, AREA, PICO_READ | PICO_WRITE) != PICO_OK ||
        !set_off(make_thread(process, &registers))) {
        routines->TerminateProcess(object);
        return PICO_FAILED;
    }
    return PICO_OK;
}

static const uint64_t table[4] = {3, 1, 4, 1};
static const PicoProtectedRange ranges[] = {{"the script's table", table, sizeof table}};

#define CALLBACKS                                                                                              \
    .size = sizeof(PicoProviderRoutines), .version = PICO_VERSION, .SubsystemInformationType = 7,              \
    .DispatchSystemCall = dispatch_system_call, .DispatchException = dispatch_exception,                       \
    .ExitThread = exit_thread, .ExitProcess = exit_process, .TerminateProcess = terminate_process,             \
    .WalkUserStack = walk_user_stack, .ProtectedRanges = ranges, .ProtectedRangeCount = 1,                     \
    .GetAllocatedProcessImageName = process_name, .OpenProcessAllowedAccess = open_process,                    \
    .OpenThreadAllowedAccess = open_thread, .DispatchKick = dispatch_kick,                                     \
    .DispatchIoFault = dispatch_io_fault, .GetProcessDetails = process_details,                                \
    .GetProcessCommand = process_command, .GetThreadName = thread_name, .GetThreadNumber = thread_number,      \
    .ReleaseProcessContext = release_process, .ReleaseThreadContext = release_thread

static const PicoProviderRoutines callbacks = {CALLBACKS, .Start = start};

/* The table that registers first for "handover": its start puts the real one in charge. */
static PicoStatus hand_over(const void *request, uint64_t length)
{
    PicoStatus status = routines->HandOver(host, &callbacks);
    return status == PICO_OK ? start(request, length) : status;
}

static const PicoProviderRoutines forerunner = {CALLBACKS, .Start = hand_over};

static int is(const char *word, uint64_t length, const char *wanted)
{
    uint64_t i = 0;
    while (i < length && wanted[i] && word[i] == wanted[i])
        i++;
    return i == length && !wanted[i];
}

#ifndef NO_ENTRY
__attribute__((visibility("default")))
#endif
PicoStatus pico_provider_register(const PicoRoutines *offered, PicoRegistration *registration)
{
    static PicoProviderRoutines changed;
    /* A host that lacks what we need is none for us. */
    if (offered->version != PICO_VERSION || offered->size < sizeof *offered)
        return PICO_UNSUPPORTED;
    routines = offered;
    host = registration->host;
    const char *word = registration->parameters;
    uint64_t length = registration->parameters_length, at = 7;
    if (length < 8 || !is(word, 7, "events="))
        return PICO_INVALID;
    for (events = 0; at < length && word[at] != ' '; at++)
        events = events * 10 + (word[at] - '0');
    at += at < length;
    word += at, length -= at;
    changed = callbacks;
    registration->routines = &changed;
    if (is(word, length, "refuse"))
        return PICO_FAILED;
    if (is(word, length, "small"))
        changed.size = 64;
    else if (is(word, length, "version"))
        changed.version = PICO_VERSION + 1;
    else if (is(word, length, "hole"))
        changed.ExitProcess = 0;
    else
        registration->routines = is(word, length, "handover") ? &forerunner : &callbacks;
    return PICO_OK;
}
