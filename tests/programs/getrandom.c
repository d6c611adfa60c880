/* Random bytes from the vDSO (Linux 6.11), by states of the program's own: errors, lengths, threads, forks, and calls that
 * signal handlers make within calls. A kernel without it gets a stand-in that prints what one with it does. */
#include "faults.h"
#include "vdso_symbol.h"
#include <pthread.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>

#define DROPPABLE 0x08
#define PAGE 4096

typedef ssize_t function(void *to, size_t len, unsigned flags, void *state, size_t state_len);

struct parameters {
    uint32_t state_size, prot, flags, reserved[13];
};

static function *getrandom_vdso;
static size_t state_size = 144;
/* What a state is mapped with. */
static int prot = PROT_READ | PROT_WRITE, map_flags = MAP_PRIVATE | MAP_ANONYMOUS;

static ssize_t stand_in(void *to, size_t len, unsigned flags, void *state, size_t state_len)
{
    char bytes[256];
    if (state_len == ~0ul && to == NULL && len == 0 && flags == 0) {
        *(struct parameters *)state = (struct parameters){ 144, PROT_READ | PROT_WRITE, DROPPABLE | MAP_ANONYMOUS, { 0 } };
        return 0;
    }
    if ((uintptr_t)state % PAGE + state_size > PAGE)
        return -EFAULT;
    if (flags & ~7u)
        return -EINVAL;
    if (state_len == state_size && len != 0)
        *(volatile char *)state;
    /* Anew in a child that was made meanwhile. */
    for (pid_t process = 0; process != getpid();) {
        process = getpid();
        for (size_t done = 0; done < len; done += sizeof bytes) {
            syscall(SYS_getrandom, bytes, sizeof bytes, 0);
            memcpy((char *)to + done, bytes, len - done < sizeof bytes ? len - done : sizeof bytes);
        }
    }
    return len;
}

static void *new_page(void)
{
    void *page = mmap(NULL, PAGE, prot, map_flags, -1, 0);
    MUST(page == MAP_FAILED ? -1 : 0);
    return page;
}

static ssize_t draw(void *to, size_t len, void *state)
{
    return getrandom_vdso(to, len, 0, state, state_size);
}

/* All that was drawn, in blocks of 16 bytes, none of which may come twice. */
typedef unsigned char block[16];
enum { MOST = 40000 };
static block blocks[MOST];
static size_t blocks_count;

static void keep(const void *bytes, size_t len)
{
    for (; len >= sizeof(block) && blocks_count < MOST; len -= sizeof(block), bytes = (const char *)bytes + sizeof(block))
        memcpy(blocks[blocks_count++], bytes, sizeof(block));
}

static int order(const void *left, const void *right)
{
    return memcmp(left, right, sizeof(block));
}

static void show_repeated(const char *what)
{
    size_t repeated = 0;
    qsort(blocks, blocks_count, sizeof(block), order);
    for (size_t i = 1; i < blocks_count; i++)
        repeated += order(blocks[i - 1], blocks[i]) == 0;
    printf("%s: %zu repeated\n", what, repeated);
}

static void parameters(void)
{
    struct parameters parameters;
    /* The two came with the same release. */
    void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, DROPPABLE | MAP_ANONYMOUS, -1, 0);
    getrandom_vdso = vdso_symbol("__vdso_getrandom");
    TRUTH((page != MAP_FAILED) == (getrandom_vdso != NULL));
    TRUTH(getrandom_vdso == vdso_symbol("getrandom"));
    bool native = getrandom_vdso != NULL;
    if (!native)
        getrandom_vdso = stand_in;
    memset(&parameters, 0xff, sizeof parameters);
    SHOW(getrandom_vdso(NULL, 0, 0, &parameters, ~0ul));
    SHOW(parameters.prot);
    SHOW(parameters.flags);
    TRUTH(parameters.state_size >= 128 && parameters.state_size <= PAGE);
    unsigned others = 0;
    for (size_t i = 0; i < sizeof parameters.reserved / sizeof *parameters.reserved; i++)
        others |= parameters.reserved[i];
    SHOW(others);
    if (native) {
        state_size = parameters.state_size;
        prot = parameters.prot;
        map_flags = parameters.flags;
    }
}

static void errors(void)
{
    char *page = new_page(), bytes[64] = { 0 }, nothing[64] = { 0 };
    SHOW(draw(bytes, 16, page + PAGE - state_size));
    SHOW(draw(bytes, 16, page + PAGE - state_size + 1));
    SHOW(draw(bytes, 0, page + PAGE - 1));
    SHOW(getrandom_vdso(bytes, 16, 8, page + PAGE - 1, state_size));
    SHOW(draw(NULL, 0, page));
    for (unsigned flags = 0; flags < 10; flags++) {
        memset(bytes, 0, sizeof bytes);
        SHOW(getrandom_vdso(bytes, 32, flags, page, state_size));
        TRUTH((memcmp(bytes, nothing, 32) != 0) == (flags < 8));
        keep(bytes, flags < 8 ? 32 : 0);
    }
    SHOW(getrandom_vdso(bytes, 16, ~0u, page, state_size));
    size_t lengths[] = { 0, 1, state_size - 1, state_size + 1, ~0ul };
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        SHOW(getrandom_vdso(bytes, 64, 0, page, lengths[i]));
        keep(bytes, 64);
    }
    FAULT(NULL, draw(NULL, 16, page));
    /* Of that call the state is still in use. */
    SHOW(draw(bytes, 64, page));
    keep(bytes, 64);
    munmap(page, PAGE);
    fault_signal = 0;
    if (sigsetjmp(fault_return, 1) == 0)
        draw(bytes, 64, page);
    SHOW(fault_signal);
}

static void lengths(void)
{
    static unsigned char bytes[100000 + 1], zero[16];
    char *state = new_page();
    int wrong = 0, left_behind = 0;
    for (size_t len = 0; len <= 200; len++) {
        memset(bytes, 0, sizeof bytes);
        bytes[len] = 0xa5;
        wrong += draw(bytes, len, state) != (ssize_t)len || bytes[len] != 0xa5;
        wrong += len >= 16 && (memcmp(bytes, zero, 16) == 0 || memcmp(bytes + len - 16, zero, 16) == 0);
        /* What was handed out is no longer in the state. */
        left_behind += len >= 8 && memmem(state, state_size, bytes + len - 8, 8) != NULL;
        keep(bytes, len);
    }
    SHOW(wrong);
    SHOW(left_behind);
    SHOW(draw(bytes, 100000, state));
    keep(bytes, 100000);
    long ones = 0;
    for (int i = 0; i < 100000; i++)
        ones += __builtin_popcount(bytes[i]);
    /* 400,000, and a deviation of 447. */
    TRUTH(ones > 397000 && ones < 403000);
    show_repeated("lengths");
}

struct thread {
    void *state;
    unsigned char bytes[64 << 10];
    long wrong;
};

static void *thread(void *argument)
{
    struct thread *own = argument;
    for (size_t at = 0; at < sizeof own->bytes; at += 32)
        own->wrong += draw(own->bytes + at, 32, own->state) != 32;
    return NULL;
}

static void threads(void)
{
    static struct thread both[2];
    char *page = new_page();
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        both[i].state = page + i * state_size;
        MUST(-pthread_create(&threads[i], NULL, thread, &both[i]));
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        SHOW(both[i].wrong);
        keep(both[i].bytes, sizeof both[i].bytes);
    }
    show_repeated("threads");
}

/* Sends the bytes of a child to its parent, which keeps them. */
static int family[2];

static void send(const void *bytes, size_t len)
{
    MUST(write(family[1], bytes, len));
}

static void receive(pid_t child, size_t len)
{
    char bytes[2 * PAGE];
    int status = -1;
    waitpid(child, &status, 0);
    SHOW(status);
    SHOW(read(family[0], bytes, sizeof bytes) == (ssize_t)len);
    keep(bytes, len);
}

static void forks(void)
{
    char *state = new_page(), bytes[64];
    MUST(pipe(family));
    SHOW(draw(bytes, 16, state));
    keep(bytes, 16);
    for (int round = 0; round < 3; round++) {
        pid_t child = MUST(fork());
        draw(bytes, sizeof bytes, state);
        if (child == 0) {
            send(bytes, sizeof bytes);
            _exit(0);
        }
        keep(bytes, sizeof bytes);
        receive(child, sizeof bytes);
    }
    show_repeated("forks");
}

/* Re-entry: the pages that a call fills fault, and the handler uses the same state before it lets the call go on. Or it
 * forks, and the call goes on in both processes. (A child's handler that uses the state as well is more than Linux looks
 * for.) */
static char *shared_state, *room;
static volatile int handled, handler_wrong, handler_forks;
static volatile pid_t handler_child;

static void on_gap(int number, siginfo_t *info, void *context)
{
    (void)number, (void)context;
    char bytes[48], *page = (char *)((uintptr_t)info->si_addr & -PAGE);
    handled++;
    if (page < room || page >= room + 3 * PAGE)
        _exit(98);
    handler_wrong += mprotect(page, PAGE, PROT_READ | PROT_WRITE) != 0;
    if (handler_forks && (handler_child = fork()) == 0)
        return;
    handler_wrong += draw(bytes, sizeof bytes, shared_state) != sizeof bytes;
    keep(bytes, sizeof bytes);
}

/* A call of `len` bytes, whose first `before` bytes fit before a page that faults. */
static void reenter(size_t before, size_t len)
{
    char *to = room + PAGE - before;
    MUST(mprotect(room + PAGE, 2 * PAGE, PROT_NONE));
    handled = 0;
    bool whole = draw(to, len, shared_state) == (ssize_t)len;
    if (handler_forks && handler_child == 0) {
        send(to, len);
        _exit(!whole);
    }
    printf("%zu of %zu bytes: %s, %d handled, %d wrong\n", before, len, whole ? "done" : "failed", handled, handler_wrong);
    keep(to, len);
    if (handler_forks)
        receive(handler_child, len);
}

static void handlers(void)
{
    struct sigaction action = { .sa_sigaction = on_gap, .sa_flags = SA_SIGINFO };
    sigaction(SIGSEGV, &action, NULL);
    shared_state = new_page();
    room = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (handler_forks = 0; handler_forks < 2; handler_forks++) {
        reenter(0, 16);
        reenter(16, 64);
        reenter(32, 48);
        reenter(64, 800);
        reenter(48, 96);
        reenter(4096, 4096 + 64);
    }
    show_repeated("handlers");
}

/* Re-entry at any instruction: a timer's handler, which sets the timer again. */
static volatile int ticks;

static void on_tick(int number)
{
    struct itimerval soon = { .it_value.tv_usec = 150 };
    char bytes[48];
    (void)number;
    handler_wrong += draw(bytes, sizeof bytes, shared_state) != sizeof bytes;
    keep(bytes, sizeof bytes);
    if (++ticks < 100)
        setitimer(ITIMER_REAL, &soon, NULL);
}

static void timers(void)
{
    char bytes[160];
    sigset_t tick;
    sigemptyset(&tick);
    sigaddset(&tick, SIGALRM);
    signal(SIGALRM, on_tick);
    raise(SIGALRM);
    while (ticks < 100) {
        handler_wrong += draw(bytes, sizeof bytes, shared_state) != sizeof bytes;
        /* The handler keeps blocks, too. */
        sigprocmask(SIG_BLOCK, &tick, NULL);
        keep(bytes, blocks_count < MOST / 2 ? sizeof bytes : 0);
        sigprocmask(SIG_UNBLOCK, &tick, NULL);
    }
    SHOW(handler_wrong);
    show_repeated("timers");
}

int main(void)
{
    catch_faults();
    parameters();
    errors();
    lengths();
    threads();
    forks();
    handlers();
    timers();
    return 0;
}
