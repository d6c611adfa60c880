/* Users, groups, capabilities, process groups: who a program believes to be. */
#include "show.h"
#include <grp.h>
#include <sys/prctl.h>
#include <sys/fsuid.h>

int main(void)
{
    uid_t r, e, s;
    gid_t groups[64];
    SHOW(getuid());
    SHOW(geteuid());
    SHOW(getgid());
    SHOW(getegid());
    SHOW(getresuid(&r, &e, &s));
    printf("%u %u %u\n", r, e, s);
    int n = getgroups(64, groups);
    printf("groups %d:", n);
    for (int i = 0; i < n; i++)
        printf(" %u", groups[i]);
    printf("\n");
    if (n > 1)
        SHOW(getgroups(1, groups));
    SHOW(getgroups(-1, groups));
    TRUTH(getpid() == syscall(SYS_gettid));
    SHOW(getpgid(-1));
    SHOW(getsid(-1));
    SHOW(setpgid(-1, 0));
    SHOW(setpgid(0, -1));
    TRUTH(getpgid(0) == getpgrp());

    char name[17] = "";
    SHOW(prctl(PR_SET_NAME, "a-name-that-is-too-long"));
    SHOW(prctl(PR_GET_NAME, name));
    printf("%s\n", name);
    SHOW(prctl(PR_GET_DUMPABLE));
    SHOW(prctl(PR_SET_DUMPABLE, 2));
    SHOW(prctl(PR_SET_DUMPABLE, 0));
    SHOW(prctl(PR_GET_DUMPABLE));
    SHOW(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    SHOW(prctl(PR_SET_NO_NEW_PRIVS, 2, 0, 0, 0));
    SHOW(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    SHOW(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    SHOW(prctl(PR_GET_KEEPCAPS));
    SHOW(prctl(PR_GET_PDEATHSIG, &r));
    SHOW(prctl(PR_SET_PDEATHSIG, 65));
    SHOW(prctl(12345, 0, 0, 0, 0));

    if (getuid() == 0) {
        SHOW(setgroups(2, (gid_t[]){ 7, 3 }));
        SHOW(getgroups(64, groups));
        printf("%u %u\n", groups[0], groups[1]);
        int owned = MUST(open("s", O_CREAT | O_WRONLY, 0600));
        MUST(fchmod(owned, 06755));
        SHOW(setresgid(5, 6, 7));
        SHOW(getgid());
        SHOW(getegid());
        SHOW(setresuid(1000, 1001, 0));
        SHOW(getuid());
        SHOW(geteuid());
        /* Who has not CAP_FSETID takes the set-id bits away by writing. */
        struct stat st;
        SHOW(write(owned, "x", 1));
        MUST(fstat(owned, &st));
        printf("mode %o\n", st.st_mode);
        SHOW(setfsuid(1000));
        SHOW(setfsuid(-1));
        SHOW(seteuid(0));
        SHOW(setuid(1000));
        SHOW(setuid(0));
        SHOW(setresuid(-1, 0, -1));
        SHOW(setgid(0));
        SHOW(setgroups(0, NULL));
    }
    return 0;
}
