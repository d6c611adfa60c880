/* System V IPC: keys, permissions, shared segments, semaphores that are undone, queues; by one process and between two. */
#include "show.h"
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <time.h>

static long take(int id, int number, int change, int flags)
{
    struct sembuf operation = { (unsigned short)number, (short)change, (short)flags };
    return semop(id, &operation, 1);
}

static void wait_for(pid_t child)
{
    int status = -1;
    TRUTH(waitpid(child, &status, 0) == child);
    printf("status %#x\n", status);
}

static void segments(void)
{
    key_t key = 0x5049434f + getpid();
    int id = shmget(key, 10000, IPC_CREAT | IPC_EXCL | 0600);
    TRUTH(id >= 0);
    SHOW(shmget(key, 10000, IPC_CREAT | IPC_EXCL | 0600));
    TRUTH(shmget(key, 10000, 0600) == id);
    TRUTH(shmget(key, 5, 0) == id);
    SHOW(shmget(key, 10001, 0));
    SHOW(shmget(key + 1, 10000, 0));
    SHOW(shmget(IPC_PRIVATE, 0, 0600));
    char *at = shmat(id, NULL, 0);
    TRUTH(at != (void *)-1);
    strcpy(at, "from the first");
    struct shmid_ds status;
    SHOW(shmctl(id, IPC_STAT, &status));
    printf("size %zu attached %lu mode %o\n", status.shm_segsz, (unsigned long)status.shm_nattch, status.shm_perm.mode);
    TRUTH(status.shm_cpid == getpid() && status.shm_lpid == getpid() && status.shm_atime != 0 && status.shm_dtime == 0);
    TRUTH(status.shm_perm.__key == key && status.shm_perm.uid == geteuid());
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        char *other = shmat(id, NULL, SHM_RDONLY);
        printf("%s, %s\n", at, other);
        strcpy(at, "from the second");
        SHOW(mprotect(other, 4096, PROT_READ | PROT_WRITE));
        SHOW(shmctl(id, IPC_STAT, &status));
        SHOW(status.shm_nattch);
        SHOW(shmdt(other));
        exit(3);
    }
    wait_for(child);
    printf("%s\n", at);
    SHOW(shmctl(id, IPC_STAT, &status));
    SHOW(status.shm_nattch);
    TRUTH(shmat(id, at, 0) == (void *)-1 && errno == EINVAL);
    TRUTH(shmat(id, at + 4097, 0) == (void *)-1 && errno == EINVAL);
    TRUTH(shmat(id, at + 5, SHM_RND | SHM_REMAP) == at);
    TRUTH(shmat(id, NULL, SHM_REMAP) == (void *)-1 && errno == EINVAL);
    TRUTH(shmat(-1, NULL, 0) == (void *)-1 && errno == EINVAL);
    SHOW(shmdt(at + 1));
    SHOW(shmdt(at + 4096));
    SHOW(shmctl(id, SHM_LOCK, NULL));
    SHOW(shmctl(id, IPC_STAT, &status));
    printf("mode %o\n", status.shm_perm.mode);
    SHOW(shmctl(id, SHM_UNLOCK, NULL));
    status.shm_perm.mode = 0444;
    SHOW(shmctl(id, IPC_SET, &status));
    SHOW(shmctl(id, IPC_RMID, NULL));
    SHOW(shmget(key, 5, 0));
    SHOW(shmctl(id, IPC_STAT, &status));
    printf("mode %o\n", status.shm_perm.mode);
    printf("%s\n", at);
    SHOW(shmdt(at));
    SHOW(shmdt(at));
    SHOW(shmctl(id, IPC_STAT, &status));
    SHOW(shmctl(id, IPC_RMID, NULL));
    SHOW(shmctl(id, 99, NULL));
    SHOW(shmctl(id, IPC_STAT, (void *)0x1000));
}

union semun {
    int val;
    struct semid_ds *status;
    unsigned short *values;
    struct seminfo *info;
};

static void semaphores(void)
{
    int id = semget(IPC_PRIVATE, 3, 0600);
    TRUTH(id >= 0);
    SHOW(semget(IPC_PRIVATE, 0, 0600));
    SHOW(semget(IPC_PRIVATE, -1, 0600));
    SHOW(semget(IPC_PRIVATE, 32001, 0600));
    unsigned short values[3] = { 4, 5, 6 };
    SHOW(semctl(id, 0, SETALL, (union semun){ .values = values }));
    SHOW(semctl(id, 1, GETVAL));
    SHOW(semctl(id, 3, GETVAL));
    SHOW(semctl(id, -1, GETVAL));
    SHOW(semctl(id, 1, SETVAL, (union semun){ .val = 32768 }));
    SHOW(semctl(id, 1, SETVAL, (union semun){ .val = -1 }));
    SHOW(semctl(id, 1, SETVAL, (union semun){ .val = 32767 }));
    SHOW(take(id, 1, 1, 0));
    SHOW(take(id, 1, -32767, 0));
    SHOW(take(id, 1, -1, IPC_NOWAIT));
    SHOW(take(id, 1, 0, 0));
    SHOW(take(id, 0, 0, IPC_NOWAIT));
    SHOW(take(id, 3, 1, 0));
    TRUTH(semctl(id, 1, GETPID) == getpid());
    struct sembuf both[2] = { { 0, -1, IPC_NOWAIT }, { 1, -1, IPC_NOWAIT } };
    SHOW(semop(id, both, 2));
    SHOW(semctl(id, 0, GETVAL));
    SHOW(semop(id, both, 0));
    SHOW(semop(id, both, 501));
    SHOW(semop(id, (void *)0x1000, 1));
    SHOW(semop(-1, both, 1));
    struct timespec little = { 0, 1000000 }, wrong = { -1, 0 };
    both[1].sem_flg = 0;
    SHOW(semtimedop(id, &both[1], 1, &little));
    SHOW(semtimedop(id, &both[1], 1, &wrong));
    fflush(stdout);
    /* A child's operations are undone at its end, which lets another go on. */
    pid_t waiter = fork();
    if (waiter == 0) {
        exit(take(id, 2, -9, 0) == 0 ? 8 : 9);
    }
    while (semctl(id, 2, GETNCNT) != 1)
        ;
    SHOW(semctl(id, 2, GETZCNT));
    pid_t child = fork();
    if (child == 0) {
        MUST(take(id, 2, -4, SEM_UNDO));
        MUST(take(id, 0, 3, SEM_UNDO));
        MUST(semctl(id, 2, SETVAL, (union semun){ .val = 7 }));
        MUST(take(id, 2, -2, SEM_UNDO));
        MUST(take(id, 2, 2, 0));
        exit(semctl(id, 0, GETVAL));
    }
    wait_for(child);
    wait_for(waiter);
    SHOW(semctl(id, 0, GETALL, (union semun){ .values = values }));
    printf("%u %u %u\n", values[0], values[1], values[2]);
    waiter = fork();
    if (waiter == 0) {
        exit(take(id, 1, -1, 0) == -1 && errno == EIDRM ? 8 : 9);
    }
    while (semctl(id, 1, GETNCNT) != 1)
        ;
    struct semid_ds status;
    SHOW(semctl(id, 0, IPC_STAT, (union semun){ .status = &status }));
    printf("%lu semaphores, mode %o\n", (unsigned long)status.sem_nsems, status.sem_perm.mode);
    TRUTH(status.sem_otime != 0 && status.sem_ctime != 0);
    SHOW(semctl(id, 0, IPC_RMID));
    wait_for(waiter);
    SHOW(semctl(id, 0, IPC_RMID));
    SHOW(take(id, 1, -1, 0));
    SHOW(semctl(id, 0, 99));
}

struct message {
    long kind;
    char text[20];
};

static void queues(void)
{
    int id = msgget(IPC_PRIVATE, 0600);
    TRUTH(id >= 0);
    struct message message = { 3, "three" }, got;
    SHOW(msgsnd(id, &message, 6, 0));
    message = (struct message){ 1, "one" };
    SHOW(msgsnd(id, &message, 4, 0));
    message = (struct message){ 2, "" };
    SHOW(msgsnd(id, &message, 0, 0));
    message.kind = 0;
    SHOW(msgsnd(id, &message, 0, 0));
    message.kind = 1;
    SHOW(msgsnd(id, &message, 8193, 0));
    SHOW(msgsnd(id, &message, (size_t)-1, 0));
    SHOW(msgsnd(id, (void *)0x1000, 1, 0));
    SHOW(msgsnd(-1, &message, 1, 0));
    SHOW(msgrcv(id, &got, 3, 1, 0));
    SHOW(msgrcv(id, &got, 20, 9, IPC_NOWAIT));
    SHOW(msgrcv(id, &got, 20, 1, MSG_COPY | IPC_NOWAIT));
    printf("copy %ld %s\n", got.kind, got.text);
    SHOW(msgrcv(id, &got, 20, 1, MSG_COPY));
    SHOW(msgrcv(id, &got, 2, 1, MSG_NOERROR));
    printf("cut %ld %.2s\n", got.kind, got.text);
    SHOW(msgrcv(id, &got, 20, -9, 0));
    SHOW(got.kind);
    SHOW(msgrcv(id, &got, 20, 1, MSG_EXCEPT));
    printf("except %ld %s\n", got.kind, got.text);
    SHOW(msgrcv(id, &got, (size_t)-1, 0, IPC_NOWAIT));
    struct msqid_ds status;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        for (long at = 1; at <= 200; at++) {
            char large[8 + 1000] = { 0 };
            memcpy(large, &at, 8);
            MUST(msgsnd(id, large, 1000, 0));
        }
        exit(4);
    }
    long sum = 0;
    for (int at = 0; at < 200; at++) {
        char large[8 + 1000];
        long kind;
        MUST(msgrcv(id, large, 1000, 0, 0));
        memcpy(&kind, large, 8);
        sum += kind;
    }
    SHOW(sum);
    wait_for(child);
    SHOW(msgctl(id, IPC_STAT, &status));
    printf("%lu messages, %lu of %lu bytes\n", (unsigned long)status.msg_qnum, (unsigned long)status.__msg_cbytes,
           (unsigned long)status.msg_qbytes);
    TRUTH(status.msg_lspid == child && status.msg_lrpid == getpid());
    status.msg_qbytes = 10;
    SHOW(msgctl(id, IPC_SET, &status));
    message.kind = 1;
    SHOW(msgsnd(id, &message, 11, IPC_NOWAIT));
    fflush(stdout);
    child = fork();
    if (child == 0) {
        /* Asleep as it goes, or too late. */
        exit(msgrcv(id, &got, 20, 5, 0) == -1 && (errno == EIDRM || errno == EINVAL) ? 8 : 9);
    }
    SHOW(msgctl(id, IPC_RMID, NULL));
    int ended = -1;
    waitpid(child, &ended, 0);
    SHOW(ended);
    SHOW(msgrcv(id, &got, 20, 0, IPC_NOWAIT));
    SHOW(msgctl(id, 99, NULL));
}

static void limits(void)
{
    struct shminfo shared;
    struct seminfo sets;
    struct msginfo messages;
    TRUTH(shmctl(0, IPC_INFO, (struct shmid_ds *)&shared) >= 0);
    printf("%lu %lu %lu\n", (unsigned long)shared.shmmax, (unsigned long)shared.shmmin, (unsigned long)shared.shmmni);
    TRUTH(semctl(0, 0, IPC_INFO, (union semun){ .info = &sets }) >= 0);
    printf("%d %d %d %d\n", sets.semmni, sets.semmsl, sets.semopm, sets.semvmx);
    TRUTH(msgctl(0, IPC_INFO, (struct msqid_ds *)&messages) >= 0);
    printf("%d %d %d\n", messages.msgmax, messages.msgmnb, messages.msgmni);
}

int main(void)
{
    segments();
    semaphores();
    queues();
    limits();
    return 0;
}
