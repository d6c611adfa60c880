/* splice, tee, vmsplice, sendfile between pipes and files within one process. */
#include "show.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

static char data[200000] __attribute__((aligned(4096))), back[200000];
static int first[2], second[2], file;

static int waiting(int fd)
{
    int bytes = -1;
    MUST(ioctl(fd, FIONREAD, &bytes));
    return bytes;
}

static void between_pipes(void)
{
    SHOW(splice(first[0], NULL, second[1], NULL, 10, SPLICE_F_NONBLOCK));
    SHOW(write(first[1], "one two three", 13));
    SHOW(tee(first[0], second[1], 7, 0));
    SHOW(waiting(first[0]));
    SHOW(waiting(second[0]));
    SHOW(splice(first[0], NULL, second[1], NULL, 4, 0));
    SHOW(splice(first[0], NULL, second[1], NULL, 100, 0));
    SHOW(read(second[0], back, 100));
    printf("%.20s\n", back);
    SHOW(splice(first[0], NULL, first[1], NULL, 10, 0));
    SHOW(tee(first[0], first[1], 10, 0));
    SHOW(splice(first[1], NULL, second[1], NULL, 10, 0));
    SHOW(splice(first[0], NULL, second[0], NULL, 10, 0));
    SHOW(splice(first[0], NULL, second[1], NULL, 10, 16));
    SHOW(splice(first[0], NULL, second[1], NULL, 0, 16));
    SHOW(tee(first[0], second[1], 0, 16));
    SHOW(tee(first[0], file, 10, 0));
    SHOW(splice(99, NULL, second[1], NULL, 10, 0));
    /* What a tee or a splice put there is not added to. */
    SHOW(write(first[1], "a", 1));
    SHOW(splice(first[0], NULL, second[1], NULL, 1, 0));
    SHOW(write(second[1], "b", 1));
    SHOW(fcntl(second[1], F_SETPIPE_SZ, 4096));
    SHOW(read(second[0], back, 100));
    SHOW(fcntl(second[1], F_SETPIPE_SZ, 65536));
    SHOW(write(first[1], data, 65536));
    SHOW(tee(first[0], second[1], 100000, 0));
    SHOW(tee(first[0], second[1], 100000, SPLICE_F_NONBLOCK));
    SHOW(read(first[0], back, sizeof back));
    SHOW(read(second[0], back, sizeof back));
    SHOW(memcmp(data, back, 65536));
}

static void with_files(void)
{
    loff_t at = 5, wrong = -1;
    SHOW(splice(file, &at, first[1], NULL, 10, 0));
    SHOW(at);
    SHOW(lseek(file, 0, SEEK_CUR));
    SHOW(splice(file, NULL, first[1], NULL, 10, 0));
    SHOW(lseek(file, 0, SEEK_CUR));
    SHOW(read(first[0], back, 100));
    SHOW(memcmp(back, data + 5, 10) + memcmp(back + 10, data, 10));
    SHOW(splice(file, &wrong, first[1], NULL, 10, 0));
    SHOW(splice(file, NULL, first[1], &at, 10, 0));
    SHOW(splice(first[0], &at, file, NULL, 10, 0));
    SHOW(splice(file, NULL, file, NULL, 10, 0));
    SHOW(splice(file, NULL, first[1], NULL, 1000000, 0));
    SHOW(splice(file, NULL, first[1], NULL, 10, SPLICE_F_NONBLOCK));
    at = 300000;
    SHOW(read(first[0], back, sizeof back));
    SHOW(splice(file, &at, first[1], NULL, 10, 0));
    SHOW(write(first[1], data, 60000));
    at = 1000;
    SHOW(splice(first[0], NULL, file, &at, 100000, 0));
    SHOW(at);
    SHOW(pread(file, back, 60000, 1000));
    SHOW(memcmp(back, data, 60000));
    SHOW(write(first[1], "tail", 4));
    SHOW(lseek(file, 0, SEEK_END));
    SHOW(splice(first[0], NULL, file, NULL, 100, 0));
    SHOW(lseek(file, 0, SEEK_CUR));
    SHOW(write(first[1], "tail", 4));
    MUST(fcntl(file, F_SETFL, O_APPEND));
    SHOW(splice(first[0], NULL, file, NULL, 100, 0));
    MUST(fcntl(file, F_SETFL, 0));
    SHOW(waiting(first[0]));
    int null = MUST(open("/dev/null", O_RDWR)), event = MUST(eventfd(1, 0)), folder = MUST(open("/", O_RDONLY));
    SHOW(splice(first[0], NULL, null, NULL, 100, 0));
    SHOW(splice(event, NULL, first[1], NULL, 8, 0));
    SHOW(splice(folder, NULL, first[1], NULL, 8, 0) < 0);
    SHOW(splice(first[0], NULL, file, NULL, 10, SPLICE_F_NONBLOCK));
}

static void memory(void)
{
    struct iovec parts[] = { { "some", 4 }, { " bytes", 6 } };
    SHOW(vmsplice(first[1], parts, 2, 0));
    SHOW(vmsplice(first[1], parts, 2, SPLICE_F_GIFT));
    struct iovec into = { back, 15 };
    SHOW(vmsplice(first[0], &into, 1, 0));
    printf("%.15s\n", back);
    SHOW(vmsplice(first[0], &into, 1, 0));
    SHOW(vmsplice(first[0], &into, 1, SPLICE_F_NONBLOCK));
    SHOW(vmsplice(file, &into, 1, 0));
    SHOW(vmsplice(99, &into, 1, 0));
    SHOW(vmsplice(first[0], &into, 1, 32));
    SHOW(vmsplice(first[1], parts, 0, 0));
    SHOW(vmsplice(first[1], parts, 2000, 0));
    struct iovec large = { data, sizeof data };
    SHOW(vmsplice(first[1], &large, 1, 0));
    SHOW(vmsplice(first[1], &large, 1, SPLICE_F_NONBLOCK));
    SHOW(read(first[0], back, sizeof back));
}

static void sending(void)
{
    off_t at = 7;
    SHOW(sendfile(first[1], file, &at, 100));
    SHOW(at);
    SHOW(read(first[0], back, 200));
    SHOW(memcmp(back, data + 7, 100));
    SHOW(sendfile(first[1], first[0], NULL, 10));
    SHOW(sendfile(file, first[0], NULL, 10));
    at = 0;
    SHOW(sendfile(first[1], file, &at, 1000000));
    SHOW(waiting(first[0]));
}

int main(void)
{
    for (unsigned i = 0; i < sizeof data; i++)
        data[i] = (char)(i * 7 + i / 251);
    MUST(pipe(first));
    MUST(pipe(second));
    file = MUST(open("spliced", O_RDWR | O_CREAT | O_TRUNC, 0600));
    MUST(write(file, data, sizeof data));
    MUST(lseek(file, 0, SEEK_SET));
    between_pipes();
    with_files();
    MUST(pwrite(file, data, sizeof data, 0));
    memory();
    sending();
    unlink("spliced");
    return 0;
}
