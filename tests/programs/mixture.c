/* mixture SEED OPERATIONS: processes with threads make calls in random order, with signals arriving at any moment, and
 * print digests of all that the calls returned. The numbers drawn from SEED decide what is called; what is folded into a
 * digest does not depend on timing. So two runs with one seed print the same, however their calls are made.
 *
 * MIXTURE_TRACE=PROCESS.ACTOR shows on standard error what one of them does. */
#include "mixture.h"
#include "mixture_calls.h"
#include "mixture_signals.h"
#include "mixture_processes.h"

#ifndef TEMP_FAILURE_RETRY
#define TEMP_FAILURE_RETRY(call) ({ long result_; do result_ = (call); while (result_ == -1 && errno == EINTR); result_; })
#endif

/* For set-up that cannot fail on a sound system. */
#define MUST(call) must(#call, (long)(call))
static long must(const char *text, long result)
{
    if (result == -1) {
        printf("set-up failed: %s: %s\n", text, strerror(errno));
        exit(99);
    }
    return result;
}

static const struct {
    const char *name;
    void (*act)(void);
    /* How often it is done, against the others. */
    int weight;
} ACTS[] = {
    {"identity", identity, 12}, {"clocks", clocks, 6}, {"devices", devices, 10}, {"file", file_of_its_own, 16},
    {"pipe", pipe_of_its_own, 10}, {"echo", echo, 8}, {"mirror", mirror, 8}, {"futex", futex_calls, 6},
    {"memory", memory, 6}, {"descriptors", descriptors, 8}, {"errors", errors, 8}, {"folder", folder, 4},
    {"events", events, 6}, {"assorted", assorted, 6}, {"code", code_that_changes, 5},
    {"mask", mask, 10}, {"signal", signal_to_itself, 6}, {"queue", queue_signal, 4}, {"nudge", nudge, 5},
    {"alarm", alarm_soon, 6}, {"jump", jump_out_of_handler, 4}, {"fault", fault, 3}, {"wait", wait_for_signal, 4},
    {"interrupt", interrupted_read, 2}, {"sleep", short_sleep, 3}, {"child", child_of_its_own, 3},
    {"remote", child_changed_from_outside, 2}, {"execute", execute, 1}, {"thread", thread_of_its_own, 3},
};
enum { KINDS = sizeof ACTS / sizeof *ACTS };

static int operations, total_weight;
static int mirrors_end;

static void *reflect(void *argument)
{
    struct actor *actor = argument;
    for (uint32_t last = 0;;) {
        uint32_t said = atomic_load(&actor->said);
        if (said == last) {
            syscall(SYS_futex, &actor->said, FUTEX_WAIT_PRIVATE, last, NULL, NULL, 0);
            continue;
        }
        atomic_store(&actor->heard, last = said);
        syscall(SYS_futex, &actor->heard, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
        if (said == UINT32_MAX)
            return &mirrors_end;
    }
}

static void *live(void *argument)
{
    self = argument;
    self->tid = (pid_t)syscall(SYS_gettid);
    tids[self->index] = self->tid;
    pthread_barrier_wait(&all_here);
    for (int operation = 0; operation < operations; operation++) {
        int ticket = (int)draw((uint64_t)total_weight), kind = 0;
        while ((ticket -= ACTS[kind].weight) >= 0)
            kind++;
        if (self->trace)
            dprintf(2, "%d: %s\n", operation, ACTS[kind].name);
        ACTS[kind].act();
    }
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    board->digests[self->process][self->index] = self->digest;
    pthread_barrier_wait(&all_here);
    return NULL;
}

/* What an actor works with is made while its process has one thread. */
static void equip(struct actor *actor)
{
    snprintf(actor->folder, sizeof actor->folder, "actor%d-%d", actor->process, actor->index);
    char name[48];
    snprintf(name, sizeof name, "%s.file", actor->folder);
    actor->file = (int)MUST(open(name, O_RDWR | O_CREAT | O_TRUNC, 0600));
    MUST(pipe2(actor->pipe, O_NONBLOCK));
    actor->events = (int)MUST(eventfd(0, EFD_NONBLOCK));
    actor->poll = (int)MUST(epoll_create1(0));
    struct epoll_event readable = {.events = EPOLLIN, .data.u64 = 7};
    MUST(epoll_ctl(actor->poll, EPOLL_CTL_ADD, actor->events, &readable));
    actor->code = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(actor->code == MAP_FAILED ? -1 : 0);
    int there[2], back[2];
    MUST(pipe(there));
    MUST(pipe(back));
    if ((actor->echo = (pid_t)MUST(fork())) == 0)
        be_echo(there[0], back[1]);
    close(there[0]);
    close(back[1]);
    actor->to_echo = there[1];
    actor->from_echo = back[0];
}

/* Ends of pipes: everybody writes to `done` and then waits for the end of `start`, and later of `go`. */
struct gates {
    int start, done, go;
};

static void pass(int done, int gate)
{
    char byte = 0;
    CHECK(write(done, &byte, 1) == 1);
    CHECK(TEMP_FAILURE_RETRY(read(gate, &byte, 1)) == 0);
}

static void wait_for_all(int done)
{
    char byte;
    for (int number = 0; number < PROCESSES; number++)
        MUST(read(done, &byte, 1));
}

static void process(int number, uint64_t seed, struct gates gates, const char *trace)
{
    struct actor actors[ACTORS];
    pthread_t threads[ACTORS], mirrors[ACTORS];
    memset(actors, 0, sizeof actors);
    CHECK(pthread_barrier_init(&all_here, NULL, ACTORS) == 0);
    for (int i = 0; i < ACTORS; i++) {
        struct actor *actor = &actors[i];
        char name[16];
        snprintf(name, sizeof name, "%d.%d", number, i);
        actor->process = number, actor->index = i;
        actor->pid = getpid(), actor->parent = getppid();
        actor->random = (seed * ACTORS * PROCESSES + (uint64_t)(number * ACTORS + i) + 1) * 0x9e3779b97f4a7c15u;
        actor->manner = actor->random + 1;
        actor->trace = trace && strcmp(trace, name) == 0;
        equip(actor);
    }
    process_number = number;
    process_id = getpid();
    MUST(prctl(PR_SET_CHILD_SUBREAPER, 1));
    catch_signals();
    pass(gates.done, gates.start);
    for (int i = 0; i < ACTORS; i++) {
        CHECK(pthread_create(&mirrors[i], NULL, reflect, &actors[i]) == 0);
        CHECK(pthread_create(&threads[i], NULL, live, &actors[i]) == 0);
    }
    for (int i = 0; i < ACTORS; i++) {
        pthread_join(threads[i], NULL);
        atomic_store(&actors[i].said, UINT32_MAX);
        syscall(SYS_futex, &actors[i].said, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
        void *end;
        pthread_join(mirrors[i], &end);
        CHECK(end == &mirrors_end);
        CHECK(write(actors[i].to_echo, "", 1) == 1);
        CHECK(TEMP_FAILURE_RETRY(waitpid(actors[i].echo, NULL, 0)) == actors[i].echo);
    }
    pass(gates.done, gates.go);
    while (atomic_load(&board->received[number]) != atomic_load(&board->sent[number]))
        sched_yield();
    _exit(0);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "executed") == 0)
        return executed(atoi(argv[2]));
    if (argc != 3)
        return 2;
    uint64_t seed = strtoull(argv[1], NULL, 10);
    operations = atoi(argv[2]);
    own_path = argv[0];
    for (int kind = 0; kind < KINDS; kind++)
        total_weight += ACTS[kind].weight;
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(board == MAP_FAILED ? -1 : 0);
    int start[2], done[2], go[2];
    MUST(pipe(start));
    MUST(pipe(done));
    MUST(pipe(go));
    for (int number = 0; number < PROCESSES; number++) {
        pid_t pid = (pid_t)MUST(fork());
        if (pid == 0) {
            close(start[1]);
            close(go[1]);
            process(number, seed, (struct gates){start[0], done[1], go[0]}, getenv("MIXTURE_TRACE"));
        }
        board->pids[number] = pid;
    }
    /* Nobody sends a signal to one who does not catch it yet, or no longer. */
    wait_for_all(done[0]);
    close(start[1]);
    wait_for_all(done[0]);
    close(go[1]);
    for (int number = 0; number < PROCESSES; number++) {
        int status = -1;
        MUST(waitpid(board->pids[number], &status, 0));
        printf("process %d: status %x, %lu signals received, sum %lu\n", number, status,
               atomic_load(&board->received[number]), atomic_load(&board->received_sum[number]));
        for (int i = 0; i < ACTORS; i++)
            printf("  actor %d: %016lx\n", i, board->digests[number][i]);
    }
    return 0;
}
