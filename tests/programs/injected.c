// What fault injection runs: files, memory, large tables, processes, threads, pipes, time. With the argument "files" only those.
#include "injected.h"
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#define SIZE 50000

static unsigned char data[SIZE], back[SIZE];

static void files(void) {
    int fd = open("input", O_RDONLY);
    if (fd < 0) fail("open input");
    if (get(fd, back, SIZE, "read input") != SIZE || memcmp(back, data, SIZE)) wrong("input");
    unsigned char *map = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) fail("mmap input");
    if (memcmp(map, data, SIZE)) wrong("mapped input");
    if (munmap(map, SIZE)) fail("munmap");
    close(fd);
    int out = open("output.new", O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (out < 0) fail("open output");
    put(out, data, SIZE, "write output");
    struct stat status;
    if (fstat(out, &status)) fail("fstat");
    if (status.st_size != SIZE) wrong("size of output");
    memset(back, 0, SIZE);
    for (size_t at = 0; at < SIZE;) {
        ssize_t count = pread(out, back + at, SIZE - at, (off_t)at);
        if (count < 0) fail("pread output");
        if (count == 0) wrong("end of output");
        at += (size_t)count;
    }
    if (memcmp(back, data, SIZE)) wrong("output");
    if (fsync(out)) fail("fsync");
    close(out);
    if (rename("output.new", "output")) fail("rename");
    DIR *folder = opendir(".");
    if (!folder) fail("opendir");
    int seen = 0;
    errno = 0;
    for (struct dirent *entry; (entry = readdir(folder));)
        seen += !strcmp(entry->d_name, "input") || !strcmp(entry->d_name, "output");
    if (errno) fail("readdir");
    if (seen != 2) wrong("folder");
    closedir(folder);
    int scratch = open("/tmp/scratch", O_RDWR | O_CREAT, 0600);
    if (scratch < 0) fail("open scratch");
    put(scratch, data, SIZE, "write scratch");
    if (lseek(scratch, 0, SEEK_SET)) fail("lseek");
    memset(back, 0, SIZE);
    if (get(scratch, back, SIZE, "read scratch") != SIZE || memcmp(back, data, SIZE)) wrong("scratch");
    close(scratch);
    if (unlink("/tmp/scratch")) fail("unlink");
    say("files\n");
}

static void memory(void) {
    size_t size = 6 << 20;
    unsigned char *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) fail("mmap");
    for (size_t page = 0; page < size; page += 4096) at[page] = (unsigned char)(page >> 12);
    if (mprotect(at, size / 2, PROT_READ)) fail("mprotect");
    for (size_t page = 0; page < size; page += 4096)
        if (at[page] != (unsigned char)(page >> 12) || at[page + 1]) wrong("memory");
    if (madvise(at + size / 2, size / 2, MADV_DONTNEED)) fail("madvise");
    if (at[size / 2 + 4096]) wrong("discarded memory");
    if (munmap(at, size)) fail("munmap");
    say("memory\n");
}

// What is as large as a program says: descriptors, semaphores, a list to poll.
static void tables(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit)) fail("getrlimit");
    int most = limit.rlim_cur < 20000 ? (int)limit.rlim_cur : 20000;
    if (dup2(1, most - 1) != most - 1) fail("dup2 to the highest");
    struct pollfd *list = calloc((size_t)most, sizeof *list);
    if (!list) fail("calloc");
    for (int i = 0; i < most; i++) list[i] = (struct pollfd){.fd = -1, .events = POLLIN};
    list[most - 1].fd = most - 1;
    list[most - 1].events = POLLOUT;
    if (poll(list, (nfds_t)most, -1) != 1) fail("poll of many");
    if (list[most - 1].revents != POLLOUT || list[0].revents) wrong("poll of many");
    free(list);
    if (close(most - 1)) fail("close");
    int set = semget(IPC_PRIVATE, 20000, 0600);
    if (set < 0) fail("semget");
    if (semctl(set, 19999, GETVAL) != 0) wrong("a semaphore");
    if (semctl(set, 0, IPC_RMID)) fail("semctl");
    say("tables\n");
}

// The child writes the data to a pipe, in another program; the parent compares.
static void processes(const char *self) {
    int ends[2];
    if (pipe(ends)) fail("pipe");
    pid_t child = fork();
    if (child < 0) fail("fork");
    if (child == 0) {
        if (dup2(ends[1], 5) < 0) fail("dup2");
        close(ends[0]);
        close(ends[1]);
        execl(self, self, "child", NULL);
        fail("exec");
    }
    close(ends[1]);
    memset(back, 0, SIZE);
    size_t count = get(ends[0], back, SIZE, "read of the pipe");
    int status;
    if (waitpid(child, &status, 0) != child) fail("waitpid");
    // It, or its C library, has said what failed.
    if (WIFEXITED(status) && (WEXITSTATUS(status) == 3 || WEXITSTATUS(status) == 127)) _exit(3);
    if (WIFSIGNALED(status)) {
        dprintf(2, "injected: the child was ended by signal %d\n", WTERMSIG(status));
        _exit(3);
    }
    if (status) wrong("the child's status");
    if (count != SIZE || memcmp(back, data, SIZE)) wrong("the pipe");
    close(ends[0]);
    say("processes\n");
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long total;

static void *count(void *unused) {
    for (int i = 0; i < 200; i++) {
        pthread_mutex_lock(&lock);
        total++;
        pthread_mutex_unlock(&lock);
    }
    return unused;
}

static void threads(void) {
    pthread_t made[3];
    for (int i = 0; i < 3; i++) {
        int error = pthread_create(&made[i], NULL, count, NULL);
        if (error) {
            errno = error;
            fail("pthread_create");
        }
    }
    for (int i = 0; i < 3; i++)
        if (pthread_join(made[i], NULL)) fail("pthread_join");
    if (total != 600) wrong("threads");
    say("threads\n");
}

static void time_passes(void) {
    struct timespec wait = {0, 2000000}, before, after;
    if (clock_gettime(CLOCK_MONOTONIC, &before)) fail("clock_gettime");
    if (nanosleep(&wait, NULL)) fail("nanosleep");
    if (poll(NULL, 0, 1)) fail("poll");
    if (clock_gettime(CLOCK_MONOTONIC, &after)) fail("clock_gettime");
    long passed = (after.tv_sec - before.tv_sec) * 1000000000L + after.tv_nsec - before.tv_nsec;
    if (passed < 3000000) wrong("time");
    say("time\n");
}

int main(int argc, char **argv) {
    fill(data, SIZE);
    const char *part = argc > 1 ? argv[1] : "all";
    if (!strcmp(part, "child")) {
        put(5, data, SIZE, "write to the pipe");
        return 0;
    }
    files();
    if (strcmp(part, "files")) {
        memory();
        tables();
        processes(argv[0]);
        threads();
        time_passes();
    }
    say("done\n");
    return 0;
}
