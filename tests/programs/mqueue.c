/* POSIX message queues: names and attributes, order of priorities, waiting, notification, poll, and what fork and exec leave. */
#include "show.h"
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

static char name[64];

static void wait_for(pid_t child)
{
    int status = -1;
    TRUTH(waitpid(child, &status, 0) == child);
    printf("status %#x\n", status);
}

static void show_attributes(mqd_t queue)
{
    struct mq_attr now = { .mq_flags = -1 };
    SHOW(mq_getattr(queue, &now));
    printf("flags %#lx max %ld size %ld messages %ld\n", now.mq_flags, now.mq_maxmsg, now.mq_msgsize, now.mq_curmsgs);
}

static void show_state(mqd_t queue)
{
    char text[100] = { 0 };
    TRUTH(pread(queue, text, sizeof text - 1, 0) > 0);
    /* The process's number differs from run to run. */
    char *pid = strstr(text, "NOTIFY_PID");
    if (pid != NULL)
        *pid = 0;
    printf("%s\n", text);
}

static void names(void)
{
    char longest[300];
    memset(longest, 'n', sizeof longest);
    longest[0] = '/';
    SHOW(mq_open("no-slash", O_RDWR));
    SHOW(mq_open("/", O_CREAT | O_RDWR, 0600, NULL));
    SHOW(mq_open("/.", O_CREAT | O_RDWR, 0600, NULL));
    SHOW(mq_open("/a/b", O_CREAT | O_RDWR, 0600, NULL));
    SHOW(mq_open(name, O_RDWR));
    SHOW(mq_unlink(name));
    longest[257] = 0;
    SHOW(mq_open(longest, O_CREAT | O_RDWR, 0600, NULL));
    SHOW(mq_unlink(longest));
    longest[256] = 0;
    mqd_t queue = mq_open(longest, O_CREAT | O_RDWR, 0600, NULL);
    TRUTH(queue >= 0);
    SHOW(mq_unlink(longest));
    SHOW(mq_close(queue));
    SHOW(mq_close(queue));
    SHOW(syscall(SYS_mq_open, "", O_RDWR, 0, NULL));
    SHOW(syscall(SYS_mq_open, (void *)8, O_RDWR, 0, NULL));
    SHOW(syscall(SYS_mq_open, "x", O_RDWR | O_CREAT, 0600, (void *)8));
    SHOW(mq_getattr(0, &(struct mq_attr) { 0 }));
    SHOW(mq_send(0, "x", 1, 0));
}

static void attributes(void)
{
    struct mq_attr wanted = { .mq_maxmsg = 2, .mq_msgsize = 10 };
    umask(027);
    mqd_t queue = mq_open(name, O_CREAT | O_EXCL | O_RDWR | O_NONBLOCK, 0666, &wanted);
    TRUTH(queue >= 0);
    SHOW(mq_open(name, O_CREAT | O_EXCL | O_RDWR, 0666, &wanted));
    SHOW(mq_open(name, O_WRONLY | O_RDWR));
    show_attributes(queue);
    struct stat status;
    SHOW(fstat(queue, &status));
    printf("mode %o size %ld links %ld\n", status.st_mode, (long)status.st_size, (long)status.st_nlink);
    printf("F_GETFD %d F_GETFL %#x\n", fcntl(queue, F_GETFD), fcntl(queue, F_GETFL));
    char path[64], link[100] = { 0 };
    snprintf(path, sizeof path, "/proc/self/fd/%d", queue);
    TRUTH(readlink(path, link, sizeof link - 1) > 0);
    TRUTH(strcmp(link, name) == 0);
    SHOW(write(queue, "x", 1));
    SHOW(lseek(queue, 0, SEEK_END));
    show_state(queue);
    struct mq_attr flags = { .mq_flags = O_APPEND };
    SHOW(mq_setattr(queue, &flags, NULL));
    flags.mq_flags = 0;
    flags.mq_maxmsg = 99;
    struct mq_attr before;
    SHOW(mq_setattr(queue, &flags, &before));
    printf("before: flags %#lx\n", before.mq_flags);
    show_attributes(queue);
    flags.mq_flags = O_NONBLOCK;
    SHOW(mq_setattr(queue, &flags, NULL));

    for (int bad = 0; bad < 4; bad++) {
        struct mq_attr wrong = { .mq_maxmsg = bad < 2 ? -bad : 1, .mq_msgsize = bad < 2 ? 1 : 2 - bad };
        SHOW(mq_open("/picovisor-wrong", O_CREAT | O_RDWR, 0600, &wrong));
    }
    struct mq_attr huge = { .mq_maxmsg = 65537, .mq_msgsize = 1 };
    SHOW(mq_open("/picovisor-wrong", O_CREAT | O_RDWR, 0600, &huge));
    huge = (struct mq_attr) { .mq_maxmsg = 1, .mq_msgsize = (16 << 20) + 1 };
    SHOW(mq_open("/picovisor-wrong", O_CREAT | O_RDWR, 0600, &huge));
    SHOW(mq_unlink("/picovisor-wrong"));

    struct rlimit limit = { 0, 0 }, old;
    SHOW(getrlimit(RLIMIT_MSGQUEUE, &old));
    limit.rlim_max = old.rlim_max;
    SHOW(setrlimit(RLIMIT_MSGQUEUE, &limit));
    SHOW(mq_open("/picovisor-wrong", O_CREAT | O_RDWR, 0600, &wanted));
    SHOW(setrlimit(RLIMIT_MSGQUEUE, &old));
    SHOW(getrlimit(RLIMIT_NOFILE, &old));
    limit = (struct rlimit) { 0, old.rlim_max };
    SHOW(setrlimit(RLIMIT_NOFILE, &limit));
    SHOW(mq_open("/picovisor-wrong", O_CREAT | O_RDWR, 0600, &wanted));
    SHOW(setrlimit(RLIMIT_NOFILE, &old));
    SHOW(mq_open("/picovisor-wrong", O_RDWR));
    SHOW(mq_close(queue));
}

static void show_poll(mqd_t queue)
{
    struct pollfd entry = { .fd = queue, .events = POLLIN | POLLOUT };
    SHOW(poll(&entry, 1, 0));
    printf("revents %#x\n", entry.revents);
}

static void messages(void)
{
    char text[16] = { 0 };
    unsigned priority = 0;
    mqd_t queue = mq_open(name, O_RDWR | O_NONBLOCK), reader = mq_open(name, O_RDONLY), writer = mq_open(name, O_WRONLY);
    TRUTH(queue >= 0 && reader >= 0 && writer >= 0);
    show_poll(queue);
    SHOW(mq_receive(queue, text, 10, &priority));
    SHOW(mq_receive(writer, text, 10, &priority));
    SHOW(mq_receive(queue, text, 9, &priority));
    SHOW(mq_send(reader, "x", 1, 0));
    SHOW(mq_send(queue, "12345678901", 11, 0));
    SHOW(mq_send(queue, "x", 1, 32768));
    SHOW(mq_send(queue, (void *)8, 1, 0));
    SHOW(mq_send(queue, "low", 3, 3));
    show_poll(queue);
    SHOW(mq_send(queue, "high", 4, 32767));
    show_poll(queue);
    SHOW(mq_send(queue, "more", 4, 1));
    show_attributes(queue);
    show_state(queue);
    SHOW(mq_receive(queue, text, 16, &priority));
    printf("%.4s, priority %u\n", text, priority);
    SHOW(mq_send(queue, "", 0, 3));
    SHOW(mq_receive(queue, text, 16, &priority));
    printf("%.3s, priority %u\n", text, priority);
    SHOW(mq_receive(queue, text, 16, NULL));
    show_poll(queue);

    struct timespec past = { .tv_sec = 1 }, wrong = { .tv_nsec = 1000000000 };
    mqd_t waits = mq_open(name, O_RDWR);
    SHOW(mq_timedreceive(waits, text, 16, NULL, &past));
    SHOW(mq_timedreceive(waits, text, 16, NULL, &wrong));
    SHOW(mq_timedsend(waits, "", 0, 0, &wrong));
    SHOW(mq_timedsend(waits, "1", 1, 0, &past));
    SHOW(mq_timedsend(waits, "2", 1, 0, &past));
    SHOW(mq_timedsend(waits, "3", 1, 0, &past));
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        /* Waits for room until the parent has received. */
        exit(mq_send(waits, "4", 1, 9) == 0 ? 4 : 5);
    }
    for (int n = 0; n < 3; n++) {
        SHOW(mq_receive(waits, text, 16, &priority));
        fflush(stdout);
        if (n == 0)
            wait_for(child);
        printf("%.1s, priority %u\n", text, priority);
    }
    child = fork();
    if (child == 0) {
        int len = mq_receive(waits, text, 16, &priority);
        exit(len == 5 && memcmp(text, "child", 5) == 0 && priority == 7 ? 6 : 7);
    }
    SHOW(mq_send(waits, "child", 5, 7));
    wait_for(child);
    SHOW(mq_close(queue));
    SHOW(mq_close(reader));
    SHOW(mq_close(writer));
    SHOW(mq_close(waits));
}

static void on_signal(int signal, siginfo_t *info, void *context)
{
    (void)context;
    printf("signal %d code %d value %d from this process: %d\n", signal, info->si_code, info->si_value.sival_int,
        info->si_pid == getpid() && info->si_uid == getuid());
}

static void on_thread(union sigval value)
{
    *(volatile int *)value.sival_ptr += 1;
    mq_send(mq_open(name, O_WRONLY), "told", 4, 31);
}

static void notification(void)
{
    char text[16];
    mqd_t queue = mq_open(name, O_RDWR | O_NONBLOCK);
    struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };
    SHOW(sigaction(SIGUSR1, &action, NULL));
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 42 };
    SHOW(mq_notify(0, &event));
    SHOW(mq_notify(queue, NULL));
    SHOW(mq_notify(queue, &event));
    show_state(queue);
    SHOW(mq_notify(queue, &event));
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        SHOW(mq_notify(queue, &event));
        SHOW(mq_notify(queue, NULL));
        show_state(queue);
        exit(0);
    }
    wait_for(child);
    SHOW(mq_send(queue, "a", 1, 0));
    SHOW(mq_send(queue, "b", 1, 0));
    show_state(queue);
    /* A queue that is not empty tells nobody until it was. */
    SHOW(mq_notify(queue, &event));
    SHOW(mq_receive(queue, text, 16, NULL));
    SHOW(mq_send(queue, "c", 1, 0));
    SHOW(mq_receive(queue, text, 16, NULL));
    SHOW(mq_receive(queue, text, 16, NULL));
    SHOW(mq_send(queue, "d", 1, 0));
    SHOW(mq_receive(queue, text, 16, NULL));
    event.sigev_notify = SIGEV_NONE;
    SHOW(mq_notify(queue, &event));
    show_state(queue);
    /* Any descriptor of the queue that is closed ends the registration. */
    SHOW(mq_close(mq_open(name, O_RDONLY)));
    show_state(queue);
    event.sigev_notify = 99;
    SHOW(mq_notify(queue, &event));
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = 65;
    SHOW(mq_notify(queue, &event));
    struct sigevent raw = { .sigev_notify = SIGEV_THREAD, .sigev_signo = -1, .sigev_value.sival_ptr = text };
    SHOW(syscall(SYS_mq_notify, queue, &raw));
    raw.sigev_signo = queue;
    SHOW(syscall(SYS_mq_notify, queue, &raw));
    raw.sigev_value.sival_ptr = NULL;
    SHOW(syscall(SYS_mq_notify, queue, &raw));

    static volatile int told;
    struct sigevent by_thread = { .sigev_notify = SIGEV_THREAD, .sigev_notify_function = on_thread,
        .sigev_value.sival_ptr = (void *)&told };
    SHOW(mq_notify(queue, &by_thread));
    show_state(queue);
    SHOW(mq_send(queue, "e", 1, 1));
    mqd_t waits = mq_open(name, O_RDONLY);
    /* Whichever comes first. */
    TRUTH(mq_receive(waits, text, 16, NULL) + mq_receive(waits, text, 16, NULL) == 5);
    printf("told %d\n", told);
    /* One that is taken back tells the thread so, and nobody else. */
    SHOW(mq_notify(queue, &by_thread));
    SHOW(mq_notify(queue, NULL));
    SHOW(mq_send(queue, "f", 1, 1));
    SHOW(mq_receive(waits, text, 16, NULL));
    printf("told %d\n", told);
    SHOW(mq_close(waits));
    SHOW(mq_close(queue));
}

static void permissions(void)
{
    if (geteuid() != 0)
        return;
    mqd_t queue = mq_open(name, O_RDWR);
    SHOW(fchmod(queue, 0640));
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        MUST(setgid(1234));
        MUST(setuid(1234));
        SHOW(mq_open(name, O_RDONLY));
        SHOW(mq_open(name, O_RDONLY | O_CREAT, 0600, NULL));
        SHOW(mq_unlink(name));
        SHOW(syscall(SYS_mq_unlink, name + 1));
        struct mq_attr large = { .mq_maxmsg = 11, .mq_msgsize = 1 };
        SHOW(mq_open("/picovisor-wrong", O_CREAT | O_RDWR, 0600, &large));
        exit(0);
    }
    wait_for(child);
    SHOW(mq_unlink(name));
    struct stat status;
    SHOW(fstat(queue, &status));
    printf("links %ld\n", (long)status.st_nlink);
    SHOW(mq_send(queue, "still", 5, 0));
    SHOW(mq_open(name, O_RDWR));
    SHOW(mq_close(queue));
}

int main(void)
{
    snprintf(name, sizeof name, "/picovisor-%d", getpid());
    names();
    attributes();
    messages();
    notification();
    permissions();
    mq_unlink(name);
    return 0;
}
