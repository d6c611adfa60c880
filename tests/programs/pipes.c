/* Pipes and FIFOs within one process: capacity, atomic writes, packets, readiness, what ends each side; reopening through /proc. */
#include "show.h"
#include <limits.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <sys/uio.h>

static volatile int broken;

static void on_broken(int number)
{
    (void)number;
    broken++;
}

static int ends[2];
static char page[65536], back[1 << 20];

static void ready(const char *what)
{
    struct pollfd p[] = { { ends[0], POLLIN | POLLOUT | POLLRDNORM, 0 }, { ends[1], POLLIN | POLLOUT | POLLWRNORM, 0 } };
    int n = poll(p, 2, 0);
    printf("%s: %d ready, reader %x writer %x\n", what, n, p[0].revents, p[1].revents);
}

static int waiting(void)
{
    int bytes = -1;
    MUST(ioctl(ends[0], FIONREAD, &bytes));
    return bytes;
}

static void open_pipe(int flags)
{
    MUST(pipe2(ends, flags));
}

static void close_pipe(void)
{
    close(ends[0]);
    close(ends[1]);
}

static void basics(void)
{
    SHOW(syscall(SYS_pipe, 0));
    SHOW(pipe2(ends, O_NONBLOCK | O_APPEND));
    SHOW(pipe2(ends, -1));
    MUST(pipe(ends));
    SHOW(ends[1] - ends[0]);
    SHOW(fcntl(ends[0], F_GETFL));
    SHOW(fcntl(ends[1], F_GETFL));
    SHOW(fcntl(ends[0], F_GETFD));
    close_pipe();
    open_pipe(O_CLOEXEC | O_NONBLOCK);
    SHOW(fcntl(ends[0], F_GETFL));
    SHOW(fcntl(ends[1], F_GETFL));
    SHOW(fcntl(ends[1], F_GETFD));
    struct stat st, other;
    SHOW(fstat(ends[0], &st));
    SHOW(fstat(ends[1], &other));
    TRUTH(st.st_ino == other.st_ino && st.st_dev == other.st_dev);
    printf("mode %o, %ld links, size %ld, blocks %ld of %ld, own %d %d\n", st.st_mode, (long)st.st_nlink, (long)st.st_size,
        (long)st.st_blocks, (long)st.st_blksize, st.st_uid == getuid(), st.st_gid == getgid());
    struct statfs fs;
    SHOW(fstatfs(ends[0], &fs));
    printf("type %lx, block %ld, name %ld\n", (long)fs.f_type, (long)fs.f_bsize, (long)fs.f_namelen);
    char path[64], link[64], expected[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", ends[0]);
    ssize_t len = readlink(path, link, sizeof link - 1);
    link[len < 0 ? 0 : len] = 0;
    snprintf(expected, sizeof expected, "pipe:[%lu]", (unsigned long)st.st_ino);
    TRUTH(!strcmp(link, expected));
    SHOW(lseek(ends[0], 0, SEEK_SET));
    SHOW(lseek(ends[0], 0, 99));
    SHOW(pread(ends[0], back, 1, 0));
    SHOW(pwrite(ends[1], page, 1, 0));
    SHOW(ftruncate(ends[1], 0));
    SHOW(fsync(ends[0]));
    SHOW(read(ends[1], back, 1));
    SHOW(write(ends[0], page, 1));
    SHOW(read(ends[0], back, 1));
    SHOW(read(ends[0], back, 0));
    SHOW(write(ends[1], page, 0));
    SHOW(mmap(NULL, 4096, PROT_READ, MAP_SHARED, ends[0], 0) == MAP_FAILED);
    SHOW(ioctl(ends[0], FIONREAD, NULL));
    SHOW(ioctl(ends[0], 0x5401, back));
    SHOW(fchmod(ends[0], 0644));
    fstat(ends[1], &st);
    SHOW(st.st_mode & 07777);
    ready("empty");
    close_pipe();
}

static void capacity(void)
{
    open_pipe(O_NONBLOCK);
    SHOW(fcntl(ends[0], F_GETPIPE_SZ));
    SHOW(write(ends[1], page, sizeof page));
    SHOW(write(ends[1], page, 1));
    ready("full");
    SHOW(waiting());
    SHOW(read(ends[0], back, 4095));
    ready("a buffer is begun");
    SHOW(write(ends[1], page, 1));
    SHOW(read(ends[0], back, 1));
    ready("a buffer is free");
    SHOW(write(ends[1], page, 5000));
    SHOW(write(ends[1], page, 100));
    SHOW(fcntl(ends[1], F_SETPIPE_SZ, 4096));
    SHOW(fcntl(ends[1], F_SETPIPE_SZ, 65537));
    SHOW(fcntl(ends[1], F_SETPIPE_SZ, 0x80000001));
    SHOW(fcntl(ends[1], F_SETPIPE_SZ, -1));
    SHOW(write(ends[1], page, sizeof page));
    SHOW(read(ends[0], back, sizeof back));
    SHOW(fcntl(ends[1], F_SETPIPE_SZ, 0));
    SHOW(fcntl(ends[1], F_SETPIPE_SZ, 1));
    SHOW(fcntl(ends[0], F_GETPIPE_SZ));
    SHOW(write(ends[1], page, 4097));
    SHOW(read(ends[0], back, sizeof back));
    SHOW(fcntl(0, F_GETPIPE_SZ) < 0 ? errno : 0);
    int file = MUST(open("/etc/passwd", O_RDONLY));
    SHOW(fcntl(file, F_GETPIPE_SZ));
    SHOW(fcntl(file, F_SETPIPE_SZ, 4096));
    close(file);
    close_pipe();
    /* Small writes share buffers; each write of up to PIPE_BUF is in one piece. */
    open_pipe(O_NONBLOCK);
    int writes = 0;
    while (write(ends[1], page, 3000) == 3000)
        writes++;
    SHOW(writes);
    SHOW(write(ends[1], page, 1096));
    SHOW(write(ends[1], page, 1));
    SHOW(waiting());
    close_pipe();
}

static void packets(void)
{
    open_pipe(O_NONBLOCK | O_DIRECT);
    SHOW(fcntl(ends[1], F_GETFL));
    SHOW(write(ends[1], "one", 3));
    SHOW(write(ends[1], "three", 5));
    SHOW(write(ends[1], page, 5000));
    SHOW(waiting());
    SHOW(read(ends[0], back, 100));
    SHOW(read(ends[0], back, 2));
    SHOW(read(ends[0], back, 10000));
    SHOW(read(ends[0], back, 10000));
    SHOW(read(ends[0], back, 100));
    SHOW(fcntl(ends[1], F_SETFL, O_NONBLOCK));
    SHOW(write(ends[1], "a", 1));
    SHOW(write(ends[1], "b", 1));
    SHOW(read(ends[0], back, 100));
    SHOW(fcntl(ends[1], F_SETFL, O_NONBLOCK | O_DIRECT));
    SHOW(write(ends[1], "a", 1));
    SHOW(write(ends[1], "b", 1));
    SHOW(read(ends[0], back, 100));
    close_pipe();
}

static void faults(void)
{
    char *gap = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(munmap(gap + 4096, 4096));
    open_pipe(O_NONBLOCK);
    SHOW(write(ends[1], gap + 4000, 200));
    SHOW(waiting());
    SHOW(write(ends[1], "abcdef", 6));
    SHOW(read(ends[0], gap + 4093, 6));
    SHOW(waiting());
    SHOW(syscall(SYS_read, ends[0], 16, 6));
    struct iovec parts[] = { { gap, 4096 }, { gap + 4096, 10 } };
    SHOW(writev(ends[1], parts, 2));
    SHOW(waiting());
    SHOW(syscall(SYS_write, ends[1], -1L, 1));
    close_pipe();
}

static void ends_close(void)
{
    open_pipe(O_NONBLOCK);
    SHOW(write(ends[1], "last", 4));
    close(ends[1]);
    ends[1] = -1;
    ready("writer gone");
    SHOW(read(ends[0], back, 10));
    SHOW(read(ends[0], back, 10));
    ready("nothing left");
    close_pipe();
    open_pipe(0);
    close(ends[0]);
    ends[0] = -1;
    ready("reader gone");
    SHOW(write(ends[1], "x", 1));
    SHOW(broken);
    SHOW(write(ends[1], "", 0));
    SHOW(broken);
    close_pipe();
}

static void reopened(void)
{
    open_pipe(O_NONBLOCK);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", ends[0]);
    int writer = open(path, O_WRONLY), reader = open(path, O_RDONLY | O_NONBLOCK), both = open(path, O_RDWR | O_NONBLOCK);
    TRUTH(writer >= 0 && reader >= 0 && both >= 0);
    SHOW(write(writer, "through", 7));
    SHOW(read(reader, back, 3));
    SHOW(read(both, back, 100));
    close(ends[1]);
    SHOW(read(ends[0], back, 1));
    close(writer);
    SHOW(read(ends[0], back, 1));
    close(both);
    SHOW(read(ends[0], back, 1));
    close(ends[0]);
    close(reader);
}

static void fifos(void)
{
    char name[] = "a-fifo";
    unlink(name);
    umask(022);
    SHOW(mkfifo(name, 0666));
    SHOW(mkfifo(name, 0666));
    struct stat st;
    SHOW(stat(name, &st));
    printf("mode %o, size %ld\n", st.st_mode, (long)st.st_size);
    SHOW(open(name, O_WRONLY | O_NONBLOCK));
    SHOW(open(name, O_RDONLY | O_DIRECTORY));
    SHOW(truncate(name, 0));
    int reader = MUST(open(name, O_RDONLY | O_NONBLOCK));
    struct pollfd p = { reader, POLLIN, 0 };
    SHOW(poll(&p, 1, 0));
    SHOW(read(reader, back, 10));
    int writer = MUST(open(name, O_WRONLY | O_NONBLOCK));
    SHOW(fcntl(writer, F_GETFL));
    SHOW(write(writer, "via a name", 10));
    SHOW(read(reader, back, 3));
    SHOW(lseek(reader, 0, SEEK_CUR));
    SHOW(fcntl(reader, F_GETPIPE_SZ));
    close(writer);
    SHOW(poll(&p, 1, 0));
    SHOW(p.revents);
    SHOW(read(reader, back, 100));
    SHOW(poll(&p, 1, 0));
    SHOW(p.revents);
    close(reader);
    /* Both sides at once never wait; with the last end the contents go. */
    int both = MUST(open(name, O_RDWR));
    SHOW(write(both, "kept", 4));
    writer = MUST(open(name, O_WRONLY));
    SHOW(rename(name, "b-fifo"));
    reader = MUST(open("b-fifo", O_RDONLY));
    SHOW(read(reader, back, 2));
    close(both);
    close(reader);
    SHOW(write(writer, "x", 1));
    SHOW(broken);
    close(writer);
    both = MUST(open("b-fifo", O_RDWR | O_NONBLOCK | O_TRUNC | O_CREAT, 0600));
    SHOW(read(both, back, 10));
    close(both);
    SHOW(open("b-fifo", O_RDWR | O_CREAT | O_EXCL, 0600));
    SHOW(mknod("c-fifo", S_IFIFO | 0600, 0));
    SHOW(unlink("b-fifo"));
    SHOW(unlink("c-fifo"));
}

int main(void)
{
    struct sigaction action = { .sa_handler = on_broken };
    MUST(sigaction(SIGPIPE, &action, NULL));
    basics();
    capacity();
    packets();
    faults();
    ends_close();
    reopened();
    fifos();
    return 0;
}
