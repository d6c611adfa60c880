/* micro NAME...: runs the named micro-benchmarks (none: lists them) and prints a line "NAME NANOSECONDS" for each, for
 * one operation; "NAME unsupported" where the processor or the system lacks what it needs. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <immintrin.h>
#include <linux/futex.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *own_path;
static volatile uint64_t sink;

static double now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e9 + time.tv_nsec;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

/* Operations that are repeated: each does `count` of them. */

static void null_syscall(long count) {
    for (long i = 0; i < count; i++) syscall(SYS_getpid);
}

static void clock_vdso(long count) {
    struct timespec time;
    for (long i = 0; i < count; i++) clock_gettime(CLOCK_MONOTONIC, &time);
}

static void clock_trapped(long count) {
    struct timespec time;
    for (long i = 0; i < count; i++) syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &time);
}

static void read_zero(long count) {
    static int zero = -1;
    char byte;
    if (zero < 0 && (zero = open("/dev/zero", O_RDONLY)) < 0) fail("/dev/zero");
    for (long i = 0; i < count; i++)
        if (read(zero, &byte, 1) != 1) fail("read");
}

static void open_fstat_close(long count) {
    struct stat about;
    for (long i = 0; i < count; i++) {
        int file = open(own_path, O_RDONLY | O_CLOEXEC);
        if (file < 0 || fstat(file, &about) != 0 || about.st_size == 0) fail(own_path);
        close(file);
    }
}

static void mmap_munmap(long count) {
    for (long i = 0; i < count; i++) {
        char *page = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED) fail("mmap");
        munmap(page, 65536);
    }
}

static void mmap_touch_munmap(long count) {
    for (long i = 0; i < count; i++) {
        char *page = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED) fail("mmap");
        *page = 1;
        munmap(page, 65536);
    }
}

/* Processes and threads. */

static void wait_for(pid_t child) {
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) fail("child");
}

static void fork_exit_wait(long count) {
    for (long i = 0; i < count; i++) {
        pid_t child = fork();
        if (child == 0) _exit(0);
        wait_for(child);
    }
}

static void fork_exec_wait(long count) {
    for (long i = 0; i < count; i++) {
        pid_t child = fork();
        if (child == 0) {
            execl(own_path, own_path, "exit", NULL);
            _exit(127);
        }
        wait_for(child);
    }
}

static void *nothing(void *argument) { return argument; }

static void thread_create_join(long count) {
    for (long i = 0; i < count; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, nothing, NULL) != 0 || pthread_join(thread, NULL) != 0) fail("thread");
    }
}

/* Ping-pong: a byte there and back; one operation is a round trip. The other side lives until this program ends. */

static void echo(int in, int out) {
    char byte;
    while (read(in, &byte, 1) == 1)
        if (write(out, &byte, 1) != 1) break;
    _exit(0);
}

static void volley(int in, int out, long count) {
    char byte = 1;
    for (long i = 0; i < count; i++)
        if (write(out, &byte, 1) != 1 || read(in, &byte, 1) != 1) fail("ping-pong");
}

static void pipe_ping_pong(long count) {
    static int there[2], back[2] = {-1, -1};
    if (back[0] < 0) {
        if (pipe(there) != 0 || pipe(back) != 0) fail("pipe");
        pid_t child = fork();
        if (child < 0) fail("fork");
        if (child == 0) {
            close(there[1]);
            close(back[0]);
            echo(there[0], back[1]);
        }
        close(there[0]);
        close(back[1]);
    }
    volley(back[0], there[1], count);
}

static void unix_ping_pong(long count) {
    static int ends[2] = {-1, -1};
    if (ends[0] < 0) {
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) fail("socketpair");
        pid_t child = fork();
        if (child < 0) fail("fork");
        if (child == 0) {
            close(ends[0]);
            echo(ends[1], ends[1]);
        }
        close(ends[1]);
    }
    volley(ends[0], ends[0], count);
}

static void tcp_ping_pong(long count) {
    static int ours = -1;
    if (ours < 0) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t length = sizeof address;
        int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
        if (listener < 0 || bind(listener, (struct sockaddr *)&address, length) != 0 || listen(listener, 1) != 0 ||
            getsockname(listener, (struct sockaddr *)&address, &length) != 0)
            fail("listener");
        pid_t child = fork();
        if (child < 0) fail("fork");
        if (child == 0) {
            int theirs = accept(listener, NULL, NULL);
            setsockopt(theirs, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            close(listener);
            echo(theirs, theirs);
        }
        ours = socket(AF_INET, SOCK_STREAM, 0);
        if (ours < 0 || connect(ours, (struct sockaddr *)&address, length) != 0) fail("connect");
        setsockopt(ours, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        close(listener);
    }
    volley(ours, ours, count);
}

/* Whose turn it is: 0 the main thread's, 1 the other's. */
static atomic_int turn;

static void hand_over(int to) {
    atomic_store(&turn, to);
    syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    while (atomic_load(&turn) == to) syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, to, NULL, NULL, 0);
}

static void *other_side(void *argument) {
    while (atomic_load(&turn) == 0) syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
    for (;;) hand_over(0);
    return argument;
}

static void futex_ping_pong(long count) {
    static pthread_t thread;
    static int started;
    if (!started) {
        if (pthread_create(&thread, NULL, other_side, NULL) != 0) fail("thread");
        started = 1;
    }
    for (long i = 0; i < count; i++) hand_over(1);
}

/* Operations that are timed once, because a second time would be another thing. */

/* Touches every 4 KiB of `size` fresh bytes; returns nanoseconds. */
static double touch(size_t size, int advice) {
    size_t huge = 2 << 20;
    char *whole = mmap(NULL, size + huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (whole == MAP_FAILED) fail("mmap");
    char *start = (char *)(((uintptr_t)whole + huge - 1) & ~(huge - 1));
    madvise(start, size, advice); /* a kernel without huge pages refuses, and that is a result too */
    double before = now_ns();
    for (size_t at = 0; at < size; at += 4096) ((volatile char *)start)[at] = 1;
    double after = now_ns();
    munmap(whole, size + huge);
    return after - before;
}

static double touch_4k(void) { return touch(64 << 20, MADV_NOHUGEPAGE) / (64 << 8); }

static double touch_huge_1g(void) { return touch(1 << 30, MADV_HUGEPAGE); }

static int ascending(const void *left, const void *right);

/* The median of ten forks, with exit and wait, of a process that has touched 500 MiB. */
static double fork_500m(void) {
    enum { FORKS = 10 };
    double forks[FORKS];
    size_t size = 500 << 20;
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) fail("mmap");
    memset(memory, 1, size);
    for (int i = 0; i < FORKS; i++) {
        double before = now_ns();
        fork_exit_wait(1);
        forks[i] = now_ns() - before;
    }
    munmap(memory, size);
    qsort(forks, FORKS, sizeof *forks, ascending);
    return forks[FORKS / 2];
}

/* Crowds: made, all there at once, asleep, and gone again; one measurement is of the whole. */

static double processes_1000(void) {
    enum { PROCESSES = 1000 };
    int gate[2], arrived[2];
    char byte = 0;
    if (pipe(gate) != 0 || pipe(arrived) != 0) fail("pipe");
    double before = now_ns();
    for (int i = 0; i < PROCESSES; i++) {
        pid_t child = fork();
        if (child < 0) fail("fork");
        if (child == 0) {
            close(gate[1]);
            if (write(arrived[1], &byte, 1) != 1) _exit(1);
            _exit(read(gate[0], &byte, 1) != 0); /* until the parent closes its end */
        }
    }
    for (int i = 0; i < PROCESSES; i++)
        if (read(arrived[0], &byte, 1) != 1) fail("read");
    close(gate[1]);
    for (int i = 0; i < PROCESSES; i++) {
        int status;
        if (wait(&status) < 0 || status != 0) fail("wait");
    }
    return now_ns() - before;
}

/* Half of them ends of pipes, a quarter eventfds, a quarter opens of one file. */
static double descriptors_100000(void) {
    enum { DESCRIPTORS = 100000, SPARE = 100 };
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) fail("getrlimit");
    limit.rlim_cur = DESCRIPTORS + SPARE;
    if (limit.rlim_max < limit.rlim_cur) limit.rlim_max = limit.rlim_cur;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) return -1;
    char name[] = "/tmp/descriptorsXXXXXX";
    int first = mkstemp(name), last = first, ends[2];
    if (first < 0) fail("mkstemp");
    double before = now_ns();
    for (int i = 0; i < DESCRIPTORS / 4; i++) {
        if (pipe(ends) != 0) fail("pipe");
        if (eventfd(0, 0) < 0) fail("eventfd");
        if ((last = open(name, O_RDWR)) < 0) fail("open");
    }
    for (int fd = first; fd <= last; fd++) close(fd);
    double after = now_ns();
    unlink(name);
    return after - before;
}

static pthread_mutex_t crowd_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t crowd_full = PTHREAD_COND_INITIALIZER, crowd_over = PTHREAD_COND_INITIALIZER;
static int crowd_here, crowd_sent_home;

static void *crowd_member(void *wanted) {
    pthread_mutex_lock(&crowd_mutex);
    if (++crowd_here == *(int *)wanted) pthread_cond_signal(&crowd_full);
    while (!crowd_sent_home) pthread_cond_wait(&crowd_over, &crowd_mutex);
    pthread_mutex_unlock(&crowd_mutex);
    return NULL;
}

static double crowd_of_threads(int count) {
    pthread_t *threads = calloc((size_t)count, sizeof *threads);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 64 << 10);
    double before = now_ns();
    for (int i = 0; i < count; i++)
        if (pthread_create(&threads[i], &attributes, crowd_member, &count) != 0) fail("pthread_create");
    pthread_mutex_lock(&crowd_mutex);
    while (crowd_here != count) pthread_cond_wait(&crowd_full, &crowd_mutex);
    crowd_sent_home = 1;
    pthread_cond_broadcast(&crowd_over);
    pthread_mutex_unlock(&crowd_mutex);
    for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
    double after = now_ns();
    free(threads);
    return after - before;
}

static double threads_500(void) { return crowd_of_threads(500); }

static double threads_4000(void) { return crowd_of_threads(4000); }

static double integer(void) {
    enum { SIZE = 1 << 15 };
    static uint32_t table[SIZE];
    uint64_t state = 88172645463325252u;
    double before = now_ns();
    for (int round = 0; round < 400; round++)
        for (int i = 0; i < SIZE; i++) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            table[state % SIZE] += (uint32_t)(state / (1 + table[i]));
        }
    double after = now_ns();
    for (int i = 0; i < SIZE; i++) sink += table[i];
    return after - before;
}

__attribute__((target("avx2,fma"))) static double avx(void) {
    enum { SIZE = 4096 };
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return -1;
    static float left[SIZE] __attribute__((aligned(32))), right[SIZE] __attribute__((aligned(32)));
    for (int i = 0; i < SIZE; i++) left[i] = (float)i, right[i] = 1.0f / (float)(i + 1);
    double before = now_ns();
    for (int round = 0; round < 60000; round++) {
        __m256 factor = _mm256_set1_ps(1.0f - 1e-6f);
        for (int i = 0; i < SIZE; i += 32)
            for (int j = i; j < i + 32; j += 8)
                _mm256_store_ps(left + j, _mm256_fmadd_ps(_mm256_load_ps(left + j), factor, _mm256_load_ps(right + j)));
    }
    double after = now_ns();
    for (int i = 0; i < SIZE; i++) sink += (uint64_t)left[i];
    return after - before;
}

static const struct {
    const char *name;
    void (*repeat)(long);
    double (*once)(void);
} BENCHMARKS[] = {
    {"null_syscall", null_syscall, NULL},
    {"clock_vdso", clock_vdso, NULL},
    {"clock_trapped", clock_trapped, NULL},
    {"read_zero", read_zero, NULL},
    {"open_fstat_close", open_fstat_close, NULL},
    {"mmap_munmap", mmap_munmap, NULL},
    {"mmap_touch_munmap", mmap_touch_munmap, NULL},
    {"fork_exit_wait", fork_exit_wait, NULL},
    {"fork_500m", NULL, fork_500m},
    {"fork_exec_wait", fork_exec_wait, NULL},
    {"thread_create_join", thread_create_join, NULL},
    {"pipe_ping_pong", pipe_ping_pong, NULL},
    {"futex_ping_pong", futex_ping_pong, NULL},
    {"unix_ping_pong", unix_ping_pong, NULL},
    {"tcp_ping_pong", tcp_ping_pong, NULL},
    {"processes_1000", NULL, processes_1000},
    {"descriptors_100000", NULL, descriptors_100000},
    {"threads_500", NULL, threads_500},
    {"threads_4000", NULL, threads_4000},
    {"touch_4k", NULL, touch_4k},
    {"touch_huge_1g", NULL, touch_huge_1g},
    {"integer", NULL, integer},
    {"avx", NULL, avx},
};
enum { COUNT = sizeof BENCHMARKS / sizeof *BENCHMARKS };

static int ascending(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

/* Returns nanoseconds for one of the operations that `repeat` does: the median of nine batches of about 5 ms. */
static double repeated(void (*repeat)(long)) {
    enum { BATCHES = 9 };
    double batches[BATCHES];
    long count = 1;
    for (;; count *= 2) {
        double before = now_ns();
        repeat(count);
        if (now_ns() - before >= 5e6) break;
    }
    for (int batch = 0; batch < BATCHES; batch++) {
        double before = now_ns();
        repeat(count);
        batches[batch] = (now_ns() - before) / count;
    }
    qsort(batches, BATCHES, sizeof *batches, ascending);
    return batches[BATCHES / 2];
}

int main(int argc, char **argv) {
    own_path = argv[0];
    /* What fork_exec_wait executes. */
    if (argc == 2 && strcmp(argv[1], "exit") == 0) return 0;
    if (argc == 1)
        for (int i = 0; i < COUNT; i++) puts(BENCHMARKS[i].name);
    for (int argument = 1; argument < argc; argument++) {
        int i = 0;
        while (i < COUNT && strcmp(BENCHMARKS[i].name, argv[argument]) != 0) i++;
        if (i == COUNT) {
            fprintf(stderr, "micro: no benchmark %s\n", argv[argument]);
            return 2;
        }
        double ns = BENCHMARKS[i].repeat ? repeated(BENCHMARKS[i].repeat) : BENCHMARKS[i].once();
        if (ns < 0)
            printf("%s unsupported\n", BENCHMARKS[i].name);
        else
            printf("%s %.2f\n", BENCHMARKS[i].name, ns);
        fflush(stdout);
    }
    return 0;
}
