/* Opening, reading, writing and seeking; the errors, and the order in which Linux finds them. Works in the current folder. */
#include "show.h"

static char buffer[65536];

int main(void)
{
    int fd, other;
    SHOW(open("missing", O_RDONLY));
    SHOW(open("", O_RDONLY));
    SHOW(open((char *)1, O_RDONLY));
    SHOW(open("missing/x", O_RDONLY));
    SHOW(open("missing/", O_RDWR | O_CREAT, 0644));
    fd = MUST(open("f", O_RDWR | O_CREAT | O_EXCL, 0640));
    SHOW(open("f", O_RDWR | O_CREAT | O_EXCL, 0640));
    SHOW(open("f/x", O_RDONLY));
    SHOW(open("f", O_RDONLY | O_DIRECTORY));
    SHOW(open(".", O_WRONLY));
    SHOW(open(".", O_RDONLY | O_CREAT, 0600));
    SHOW(write(fd, "0123456789", 10));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(read(fd, buffer, 10));
    SHOW(lseek(fd, -4, SEEK_END));
    SHOW(read(fd, buffer, 100));
    printf("%.4s\n", buffer);
    SHOW(lseek(fd, -11, SEEK_END));
    SHOW(lseek(fd, 0, 99));
    SHOW(lseek(fd, 100, SEEK_SET));
    SHOW(read(fd, buffer, 1));
    SHOW(write(fd, "x", 1));
    SHOW(pread(fd, buffer, 101, 0));
    TRUTH(buffer[50] == 0 && buffer[100] == 'x');
    SHOW(pread(fd, buffer, 1, -1));
    SHOW(pwrite(fd, "AB", 2, 3));
    SHOW(pread(fd, buffer, 6, 0));
    printf("%.6s\n", buffer);
    SHOW(read(fd, (void *)1, 1));
    SHOW(pread(fd, (void *)1, 1, 0));
    SHOW(pread(fd, (void *)1, 0, 0));
    SHOW(pwrite(fd, (void *)1, 1, 0));
    SHOW(read(-1, buffer, 1));
    SHOW(read(999, buffer, 1));
    SHOW(write(fd, buffer, 0));

    SHOW(ftruncate(fd, 5));
    SHOW(lseek(fd, 0, SEEK_END));
    SHOW(ftruncate(fd, -1));
    SHOW(truncate("f", 20));
    SHOW(lseek(fd, 0, SEEK_END));
    SHOW(truncate("missing", 0));
    SHOW(truncate(".", 0));

    other = MUST(open("f", O_WRONLY | O_APPEND));
    SHOW(read(other, buffer, 1));
    SHOW(write(other, "end", 3));
    SHOW(lseek(other, 0, SEEK_SET));
    SHOW(write(other, "more", 4));
    SHOW(pwrite(other, "!", 1, 0));
    SHOW(lseek(fd, 0, SEEK_END));
    SHOW(close(other));
    other = MUST(open("f", O_RDONLY));
    SHOW(write(other, "x", 1));
    SHOW(ftruncate(other, 0));
    SHOW(close(other));
    other = MUST(open("f", O_WRONLY | O_TRUNC));
    SHOW(lseek(other, 0, SEEK_END));
    SHOW(close(other));
    SHOW(close(other));

    /* A deleted file lives on while it is open. */
    SHOW(write(fd, buffer, 4096));
    SHOW(unlink("f"));
    SHOW(open("f", O_RDONLY));
    struct stat st;
    SHOW(fstat(fd, &st));
    printf("links %ld, size %ld\n", (long)st.st_nlink, (long)st.st_size);
    SHOW(pread(fd, buffer, 4096, lseek(fd, 0, SEEK_END) - 4096));
    SHOW(close(fd));

    /* Large transfers arrive whole. */
    fd = MUST(open("big", O_RDWR | O_CREAT, 0600));
    unsigned sum = 0, again = 0;
    for (int i = 0; i < 64; i++) {
        for (unsigned k = 0; k < sizeof buffer; k++)
            sum = sum * 31 + (unsigned char)(buffer[k] = (char)(i * 7 + k * 13));
        MUST(write(fd, buffer, sizeof buffer));
    }
    SHOW(lseek(fd, 0, SEEK_SET));
    for (int i = 0; i < 64; i++) {
        MUST(read(fd, buffer, sizeof buffer));
        for (unsigned k = 0; k < sizeof buffer; k++)
            again = again * 31 + (unsigned char)buffer[k];
    }
    TRUTH(sum == again);
    SHOW(read(fd, buffer, 1));
    SHOW(close(fd));
    SHOW(unlink("big"));
    SHOW(unlink("big"));
    SHOW(unlink("."));
    return 0;
}
