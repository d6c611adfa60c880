/* What the parts of micro share. */
#ifndef MICRO_H
#define MICRO_H

/* The program's own path, for benchmarks that open or execute a file. */
extern const char *own_path;

/* The monotonic clock. */
double now_ns(void);

/* Ends the program with a word about what failed. */
_Noreturn void fail(const char *what);

/* Orders doubles for qsort. */
int ascending(const void *left, const void *right);

/* Returns nanoseconds for one of the operations that `repeat` does: the median of nine batches of about 5 ms. */
double repeated(void (*repeat)(long count));

/* Operations that are repeated: each does `count` of them. */
void null_syscall(long count);
void gettid_call(long count);
void getuid_call(long count);
void clock_vdso(long count);
void clock_trapped(long count);
void read_zero(long count);
void write_null(long count);
void lseek_call(long count);
void fstat_call(long count);
void pread_4k(long count);
void open_fstat_close(long count);
void mmap_munmap(long count);
void mmap_touch_munmap(long count);
void fork_exit_wait(long count);
void fork_exec_wait(long count);
void thread_create_join(long count);
void pipe_ping_pong(long count);
void futex_ping_pong(long count);
void unix_ping_pong(long count);
void tcp_ping_pong(long count);

/* Operations that are timed once, because a second time would be another thing: nanoseconds, or less than 0 where the
 * system lacks what it takes. */
double fork_500m(void);
double processes_1000(void);
double descriptors_100000(void);
double threads_500(void);
double threads_4000(void);
double touch_4k(void);
double touch_huge_1g(void);
double getrandom_vdso(void);
double integer(void);
double avx(void);

#endif
