/* prctl, capabilities and credentials: options, errors, and what exec and changes of user do. */
#include "show.h"
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <pthread.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#ifndef PR_SET_MDWE
#define PR_GET_MDWE 66
#endif
#ifndef PR_GET_AUXV
#define PR_GET_AUXV 0x41555856
#endif

static void in_child(const char *name, void (*act)(void))
{
    int status;
    printf("-- %s\n", name);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        act();
        fflush(stdout);
        _exit(0);
    }
    MUST(waitpid(child, &status, 0));
    if (status != 0)
        printf("status %x\n", status);
}

/* What all parts start with: environments differ in what they give. */
#define SOME (1u << CAP_CHOWN | 1u << CAP_DAC_OVERRIDE | 1u << CAP_FOWNER | 1u << CAP_SETGID | 1u << CAP_SETUID | 1u << CAP_SETPCAP | 1u << CAP_SYS_CHROOT)

static void start_with_some(void)
{
    struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct data[2] = { { SOME, SOME, 0 }, { 0, 0, 0 } };
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap) >= 0; cap++)
        if (cap > 31 || (SOME >> cap & 1) == 0)
            MUST(prctl(PR_CAPBSET_DROP, cap));
    MUST(syscall(SYS_capset, &header, data));
}

static void show_sets(const char *when)
{
    struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct data[2];
    MUST(syscall(SYS_capget, &header, data));
    printf("%s: effective %x %x, permitted %x %x, inheritable %x %x, ids %d %d, dumpable %d\n", when, data[0].effective,
           data[1].effective, data[0].permitted, data[1].permitted, data[0].inheritable, data[1].inheritable, getuid(),
           geteuid(), prctl(PR_GET_DUMPABLE));
}

static void plain_options(void)
{
    int value = -1;
    char name[16];
    SHOW(prctl(PR_SET_NAME, "0123456789abcdefgh"));
    SHOW(prctl(PR_GET_NAME, name));
    printf("%s\n", name);
    SHOW(prctl(PR_SET_NAME, 8));
    SHOW(prctl(PR_GET_NAME, 8));
    SHOW(prctl(PR_SET_PDEATHSIG, SIGUSR1));
    SHOW(prctl(PR_GET_PDEATHSIG, &value));
    SHOW(value);
    SHOW(prctl(PR_SET_PDEATHSIG, -1));
    SHOW(prctl(PR_GET_PDEATHSIG, 8));
    SHOW(prctl(PR_SET_PDEATHSIG, 0));
    SHOW(prctl(PR_SET_DUMPABLE, 2));
    SHOW(prctl(PR_SET_DUMPABLE, 0));
    SHOW(prctl(PR_GET_DUMPABLE));
    SHOW(prctl(PR_SET_DUMPABLE, 1));
    SHOW(prctl(PR_GET_UNALIGN, &value));
    SHOW(prctl(PR_SET_UNALIGN, 1));
    SHOW(prctl(PR_GET_FPEMU, &value));
    SHOW(prctl(PR_GET_FPEXC, &value));
    SHOW(prctl(PR_GET_ENDIAN, &value));
    SHOW(prctl(PR_GET_TIMING));
    SHOW(prctl(PR_SET_TIMING, PR_TIMING_TIMESTAMP));
    SHOW(prctl(PR_SET_TIMING, PR_TIMING_STATISTICAL));
    SHOW(prctl(PR_GET_TSC, &value));
    SHOW(value);
    SHOW(prctl(PR_SET_TSC, PR_TSC_ENABLE));
    SHOW(prctl(PR_SET_TSC, 7));
    SHOW(prctl(PR_TASK_PERF_EVENTS_DISABLE));
    SHOW(prctl(PR_TASK_PERF_EVENTS_ENABLE));
    SHOW(prctl(PR_GET_TIMERSLACK));
    SHOW(prctl(PR_SET_TIMERSLACK, 1234));
    SHOW(prctl(PR_GET_TIMERSLACK));
    SHOW(prctl(PR_SET_TIMERSLACK, 0));
    SHOW(prctl(PR_GET_TIMERSLACK));
    SHOW(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0));
    SHOW(prctl(PR_MCE_KILL_GET, 1, 0, 0, 0));
    SHOW(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0));
    SHOW(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0));
    SHOW(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, 9, 0, 0));
    SHOW(prctl(PR_MCE_KILL, PR_MCE_KILL_CLEAR, 1, 0, 0));
    SHOW(prctl(PR_MCE_KILL, PR_MCE_KILL_CLEAR, 0, 0, 0));
    SHOW(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0));
    SHOW(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
    SHOW(prctl(PR_SET_THP_DISABLE, 1, 1, 0, 0));
    SHOW(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
    SHOW(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
    SHOW(prctl(PR_SET_CHILD_SUBREAPER, 5));
    SHOW(prctl(PR_GET_CHILD_SUBREAPER, &value));
    SHOW(value);
    SHOW(prctl(PR_GET_NO_NEW_PRIVS, 1, 0, 0, 0));
    SHOW(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0));
    SHOW(prctl(PR_SET_NO_NEW_PRIVS, 1, 1, 0, 0));
    SHOW(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    SHOW(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    SHOW(prctl(PR_GET_MDWE, 0, 0, 0, 0));
    SHOW(prctl(PR_GET_MDWE, 1, 0, 0, 0));
    SHOW(prctl(PR_GET_SPECULATION_CTRL, 99, 0, 0, 0));
    SHOW(prctl(PR_GET_SPECULATION_CTRL, 0, 1, 0, 0));
    SHOW(prctl(PR_SET_MM, PR_SET_MM_BRK, 0, 1, 0));
    char vector[1024];
    TRUTH(prctl(PR_GET_AUXV, vector, sizeof vector, 0, 0) > 300);
    SHOW(prctl(PR_GET_AUXV, vector, sizeof vector, 1, 0));
    SHOW(prctl(PR_GET_AUXV, 8, 16, 0, 0));
    SHOW(prctl(99999));
}

static void *change_dumpable(void *unused)
{
    prctl(PR_SET_DUMPABLE, 0);
    prctl(PR_SET_NAME, "thread");
    return unused;
}

static void shared_by_threads(void)
{
    pthread_t thread;
    char name[16];
    MUST(prctl(PR_SET_NAME, "main"));
    pthread_create(&thread, NULL, change_dumpable, NULL);
    pthread_join(thread, NULL);
    SHOW(prctl(PR_GET_DUMPABLE));
    MUST(prctl(PR_GET_NAME, name));
    printf("%s\n", name);
}

static void bounding(void)
{
    SHOW(prctl(PR_CAPBSET_READ, CAP_SYS_CHROOT));
    SHOW(prctl(PR_CAPBSET_READ, 63));
    SHOW(prctl(PR_CAPBSET_DROP, 63));
    SHOW(prctl(PR_CAPBSET_DROP, CAP_SYS_CHROOT));
    SHOW(prctl(PR_CAPBSET_READ, CAP_SYS_CHROOT));
    SHOW(prctl(PR_CAPBSET_DROP, CAP_SETPCAP));
}

static void secure_bits(void)
{
    SHOW(prctl(PR_GET_SECUREBITS));
    SHOW(prctl(PR_SET_SECUREBITS, 1 << 20));
    SHOW(prctl(PR_SET_SECUREBITS, SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_KEEP_CAPS_LOCKED));
    SHOW(prctl(PR_GET_SECUREBITS));
    SHOW(prctl(PR_GET_KEEPCAPS));
    SHOW(prctl(PR_SET_KEEPCAPS, 2));
    SHOW(prctl(PR_SET_KEEPCAPS, 1));
    SHOW(prctl(PR_SET_SECUREBITS, 0));
    SHOW(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0));
}

static void ambient(void)
{
    struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct data[2];
    SHOW(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_CHOWN, 0, 0));
    SHOW(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, 63, 0, 0));
    SHOW(prctl(PR_CAP_AMBIENT, 77, CAP_CHOWN, 0, 0));
    SHOW(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_CHOWN, 1, 0));
    SHOW(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 1, 0, 0));
    SHOW(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0));
    MUST(syscall(SYS_capget, &header, data));
    data[0].inheritable = 1 << CAP_CHOWN;
    SHOW(syscall(SYS_capset, &header, data));
    SHOW(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0));
    SHOW(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_CHOWN, 0, 0));
    /* Only what is ambient outlives an exec as an ordinary user. */
    MUST(prctl(PR_SET_KEEPCAPS, 1));
    MUST(setresuid(1000, 1000, 1000));
    show_sets("kept");
    SHOW(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_CHOWN, 0, 0));
    SHOW(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0));
    MUST(execl("/proc/self/exe", "prctl", "after exec", NULL));
}

static void errors_of_capabilities(void)
{
    struct __user_cap_header_struct header = { 0x12345678, 0 };
    struct __user_cap_data_struct data[2];
    SHOW(syscall(SYS_capget, &header, NULL));
    printf("%x\n", header.version);
    header.version = 0;
    SHOW(syscall(SYS_capget, &header, data));
    header.version = 0;
    SHOW(syscall(SYS_capset, &header, data));
    header = (struct __user_cap_header_struct){ _LINUX_CAPABILITY_VERSION_3, -1 };
    SHOW(syscall(SYS_capget, &header, data));
    SHOW(syscall(SYS_capget, &header, NULL));
    header.pid = 99999;
    SHOW(syscall(SYS_capget, &header, data));
    SHOW(syscall(SYS_capset, &header, data));
    header.pid = getppid();
    SHOW(syscall(SYS_capset, &header, data));
    header.pid = 0;
    SHOW(syscall(SYS_capget, NULL, data));
    SHOW(syscall(SYS_capget, &header, (void *)8));
    SHOW(syscall(SYS_capset, &header, (void *)8));
    header.version = _LINUX_CAPABILITY_VERSION_1;
    SHOW(syscall(SYS_capget, &header, data));
}

static void drops(void)
{
    struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct data[2];
    MUST(syscall(SYS_capget, &header, data));
    data[0].effective &= ~(1 << CAP_SETUID);
    SHOW(syscall(SYS_capset, &header, data));
    SHOW(setuid(5));
    data[0].permitted &= ~(1 << CAP_SETUID);
    SHOW(syscall(SYS_capset, &header, data));
    data[0].effective |= 1 << CAP_SETUID;
    SHOW(syscall(SYS_capset, &header, data));
    data[0].permitted |= 1 << CAP_SETUID;
    SHOW(syscall(SYS_capset, &header, data));
    show_sets("dropped");
    /* Root regains what the bounding set has. */
    MUST(execl("/proc/self/exe", "prctl", "after exec", NULL));
}

static void users(void)
{
    SHOW(setgroups(0, NULL));
    SHOW(setfsuid(1000));
    show_sets("file-system user");
    SHOW(setfsuid(0));
    show_sets("and back");
    SHOW(seteuid(1000));
    show_sets("effective user");
    SHOW(setfsuid(0));
    SHOW(seteuid(0));
    show_sets("and back");
    SHOW(setresuid(1000, 1000, 0));
    show_sets("saved only");
    SHOW(setuid(0));
    show_sets("root again");
    SHOW(setresuid(1000, 1001, 1002));
    show_sets("nobody");
    SHOW(setuid(0));
    SHOW(setuid(1002));
    SHOW(setreuid(1001, -1));
    SHOW(setreuid(-1, 1000));
    SHOW(setregid(7, 7));
    SHOW(setgroups(0, NULL));
    SHOW(prctl(PR_CAPBSET_DROP, CAP_CHOWN));
    SHOW(prctl(PR_SET_SECUREBITS, 0));
}

static void *become(void *unused)
{
    /* The raw call changes this thread only. */
    MUST(syscall(SYS_setresuid, 1000, 1000, 1000));
    return unused;
}

static void by_thread(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, become, NULL);
    pthread_join(thread, NULL);
    SHOW(getuid());
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        show_sets(argv[1]);
        return 0;
    }
    if (geteuid() == 0)
        start_with_some();
    in_child("plain options", plain_options);
    in_child("threads", shared_by_threads);
    in_child("errors", errors_of_capabilities);
    if (geteuid() != 0)
        return 0;
    in_child("bounding set", bounding);
    in_child("secure bits", secure_bits);
    in_child("ambient", ambient);
    in_child("drops", drops);
    in_child("users", users);
    in_child("by thread", by_thread);
    return 0;
}
