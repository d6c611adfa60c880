/* Pseudo-terminals: opening, locking, lines and raw bytes, VMIN and VTIME, packet mode, settings, poll, hang-up. */
#include "show.h"
#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>

static int outside, inside;

/* Waits until exactly this many bytes came out, and prints them. */
static void shown(size_t expected)
{
    char bytes[5000];
    size_t got = 0;
    while (got < expected) {
        ssize_t n = read(outside, bytes + got, sizeof bytes - got);
        if (n <= 0) {
            printf("outside ended: %s\n", n ? error_name(errno) : "end");
            return;
        }
        got += n;
    }
    printf("shown %zu:", got);
    for (size_t i = 0; i < got; i++)
        printf(bytes[i] >= 32 && bytes[i] < 127 ? "%c" : "<%02x>", (unsigned char)bytes[i]);
    printf("\n");
}

static void typed(const char *bytes)
{
    size_t len = strlen(bytes);
    if (write(outside, bytes, len) != (ssize_t)len)
        printf("typing failed: %s\n", error_name(errno));
}

static void got(int fd, size_t room)
{
    char bytes[5000];
    ssize_t n = read(fd, bytes, room);
    printf("read %zd%s:", n, n < 0 ? error_name(errno) : "");
    for (ssize_t i = 0; i < n && i < 64; i++)
        printf(bytes[i] >= 32 && bytes[i] < 127 ? "%c" : "<%02x>", (unsigned char)bytes[i]);
    printf("\n");
}

static void ready(const char *what, int fd)
{
    struct pollfd p = { fd, POLLIN | POLLOUT | POLLPRI | POLLRDNORM, 0 };
    poll(&p, 1, 0);
    printf("%s is ready for %x\n", what, (unsigned short)p.revents);
}

static int wait_for(int fd, short events)
{
    struct pollfd p = { fd, events, 0 };
    poll(&p, 1, -1);
    return p.revents;
}

static void set_raw(int minimum, int time)
{
    struct termios raw;
    MUST(tcgetattr(inside, &raw));
    cfmakeraw(&raw);
    raw.c_cc[VMIN] = minimum;
    raw.c_cc[VTIME] = time;
    MUST(tcsetattr(inside, TCSANOW, &raw));
}

static void print_settings(int fd)
{
    struct termios t;
    if (tcgetattr(fd, &t) < 0) {
        printf("no settings: %s\n", error_name(errno));
        return;
    }
    printf("settings %x %x %x %x line %d speeds %x %x:", t.c_iflag, t.c_oflag, t.c_cflag, t.c_lflag, t.c_line, cfgetispeed(&t),
           cfgetospeed(&t));
    for (int i = 0; i < 17; i++)
        printf(" %x", t.c_cc[i]);
    printf("\n");
}

static void opening(void)
{
    char path[64], other[64];
    outside = MUST(posix_openpt(O_RDWR | O_NOCTTY));
    SHOW(ptsname_r(outside, path, sizeof path));
    errno = 0;
    SHOW(open(path, O_RDWR | O_NOCTTY));
    int number, locked = -1;
    SHOW(ioctl(outside, TIOCGPTN, &number));
    snprintf(other, sizeof other, "/dev/pts/%d", number);
    TRUTH(!strcmp(path, other));
    SHOW(ioctl(outside, TIOCGPTLCK, &locked));
    TRUTH(locked == 1);
    SHOW(grantpt(outside));
    SHOW(unlockpt(outside));
    inside = open(path, O_RDWR | O_NOCTTY);
    TRUTH(inside >= 0);
    TRUTH(isatty(inside) && isatty(outside));
    SHOW(ttyname_r(inside, other, sizeof other));
    TRUTH(!strcmp(path, other));
    struct stat st, by_path;
    MUST(fstat(inside, &st));
    MUST(stat(path, &by_path));
    TRUTH(S_ISCHR(st.st_mode) && st.st_rdev == by_path.st_rdev && st.st_ino == by_path.st_ino);
    printf("major %d minor is its number: %d, inode %d\n", (int)(st.st_rdev >> 8 & 0xfff), (int)(st.st_rdev & 0xff) == number,
           (int)st.st_ino - number);
    SHOW(chmod(path, 0600));
    MUST(stat(path, &by_path));
    printf("mode %o\n", by_path.st_mode & 07777);
    SHOW(lseek(inside, 0, SEEK_CUR));
    char byte;
    SHOW(pread(inside, &byte, 1, 0));
    SHOW(ioctl(inside, TIOCGPTN, &number));
    SHOW(ioctl(inside, 0x1234567, 0));
    int peer = ioctl(outside, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    TRUTH(peer >= 0);
    TRUTH(fcntl(peer, F_GETFD) == FD_CLOEXEC);
    MUST(fstat(peer, &by_path));
    TRUTH(by_path.st_rdev == st.st_rdev);
    close(peer);
    SHOW(open("/dev/pts/9999", O_RDWR));
    SHOW(open("/dev/pts/007", O_RDWR));
}

static void lines(void)
{
    print_settings(inside);
    ready("the inside", inside);
    ready("the outside", outside);
    typed("hello\r");
    shown(7);
    int waiting;
    SHOW(ioctl(inside, FIONREAD, &waiting));
    printf("%d bytes wait\n", waiting);
    ready("the inside", inside);
    got(inside, 3);
    got(inside, 100);
    typed("abc\x7f\x7fXY Z\x17W\x15line\x16\x04!\n");
    wait_for(inside, POLLIN);
    got(inside, 100);
    typed("one\ntwo\nthr\x04");
    wait_for(inside, POLLIN);
    got(inside, 100);
    got(inside, 3);
    got(inside, 3);
    typed("\x04");
    wait_for(inside, POLLIN);
    got(inside, 100);
    MUST(tcflush(outside, TCIFLUSH));
    SHOW(write(inside, "a\tb\n", 4));
    shown(5);
    fcntl(inside, F_SETFL, O_RDWR | O_NONBLOCK);
    got(inside, 10);
    typed("x");
    shown(1);
    got(inside, 10);
    fcntl(inside, F_SETFL, O_RDWR);
    SHOW(read(inside, NULL, 0));
    typed("\n");
    wait_for(inside, POLLIN);
    shown(2);
    SHOW(read(inside, (void *)8, 1));
    MUST(tcflush(inside, TCIFLUSH));
}

static void long_lines(void)
{
    struct termios t;
    MUST(tcgetattr(inside, &t));
    t.c_lflag &= ~ECHO;
    MUST(tcsetattr(inside, TCSANOW, &t));
    char many[5000];
    memset(many, 'm', sizeof many);
    size_t done = 0;
    while (done < sizeof many)
        done += MUST(write(outside, many + done, sizeof many - done));
    typed("\nnext\n");
    wait_for(inside, POLLIN);
    char line[6000];
    SHOW(read(inside, line, sizeof line));
    printf("ends with %02x %02x\n", line[4094], line[4095]);
    got(inside, 100);
    t.c_lflag |= ECHO;
    MUST(tcsetattr(inside, TCSANOW, &t));
}

static void raw_bytes(void)
{
    set_raw(1, 0);
    typed("\x03\x04q\r\n");
    wait_for(inside, POLLIN);
    char bytes[16];
    size_t have = 0;
    while (have < 5)
        have += MUST(read(inside, bytes + have, sizeof bytes - have));
    printf("%02x %02x %02x %02x %02x\n", bytes[0], bytes[1], bytes[2], bytes[3], bytes[4]);
    set_raw(0, 0);
    got(inside, 10);
    set_raw(0, 1);
    got(inside, 10);
    set_raw(4, 0);
    typed("abc");
    fcntl(inside, F_SETFL, O_RDWR | O_NONBLOCK);
    int waiting = 0;
    while (waiting < 3)
        MUST(ioctl(inside, FIONREAD, &waiting));
    ready("the inside with too little", inside);
    got(inside, 10);
    fcntl(inside, F_SETFL, O_RDWR);
    typed("ab");
    /* Fewer bytes than the minimum satisfy a read that has no room for more. */
    got(inside, 2);
    set_raw(4, 1);
    typed("xy");
    got(inside, 10);
    typed("1234567");
    waiting = 0;
    while (waiting < 7)
        MUST(ioctl(inside, FIONREAD, &waiting));
    ready("the inside", inside);
    got(inside, 5);
    SHOW(tcflush(inside, TCIFLUSH));
    SHOW(ioctl(inside, FIONREAD, &waiting));
    printf("%d bytes wait\n", waiting);
    /* What was typed in canonical mode can be read when it ends. */
    struct termios t;
    MUST(tcgetattr(inside, &t));
    t.c_lflag |= ICANON;
    t.c_cc[VEOF] = 4;
    MUST(tcsetattr(inside, TCSANOW, &t));
    typed("partial");
    fcntl(inside, F_SETFL, O_RDWR | O_NONBLOCK);
    got(inside, 10);
    set_raw(1, 0);
    fcntl(inside, F_SETFL, O_RDWR);
    got(inside, 10);
}

static void settings(void)
{
    struct termios t;
    MUST(tcgetattr(inside, &t));
    t.c_iflag = ICRNL | IXON;
    t.c_oflag = OPOST | ONLCR | XTABS;
    t.c_cflag = CS7 | PARENB | CREAD | HUPCL | CSTOPB;
    t.c_lflag = ISIG | ICANON | ECHO | ECHOE | ECHOK | IEXTEN;
    MUST(cfsetspeed(&t, B115200));
    SHOW(tcsetattr(inside, TCSAFLUSH, &t));
    print_settings(inside);
    print_settings(outside);
    SHOW(write(inside, "a\tb", 3));
    shown(9);
    SHOW(ioctl(inside, TCGETS, 8));
    SHOW(ioctl(inside, TCSETS, 8));
    SHOW(tcdrain(inside));
    SHOW(tcsendbreak(inside, 0));
    SHOW(tcflush(inside, 7));
    SHOW(tcflow(inside, 7));
    SHOW(tcflow(inside, TCOOFF));
    fcntl(inside, F_SETFL, O_RDWR | O_NONBLOCK);
    SHOW(write(inside, "x", 1));
    ready("the stopped inside", inside);
    SHOW(tcflow(inside, TCOON));
    SHOW(write(inside, "y", 1));
    shown(1);
    typed("\x13");
    struct pollfd room = { inside, POLLOUT, 0 };
    while (poll(&room, 1, 0) != 0)
        ;
    SHOW(write(inside, "z", 1));
    typed("\x11");
    TRUTH(wait_for(inside, POLLOUT) == POLLOUT);
    SHOW(write(inside, "z", 1));
    shown(1);
    SHOW(tcflow(inside, TCIOFF));
    shown(1);
    SHOW(tcflow(inside, TCION));
    shown(1);
    fcntl(inside, F_SETFL, O_RDWR);
    struct winsize size = { 0 };
    SHOW(ioctl(inside, TIOCGWINSZ, &size));
    printf("%d %d %d %d\n", size.ws_row, size.ws_col, size.ws_xpixel, size.ws_ypixel);
    size = (struct winsize) { 24, 80, 3, 4 };
    SHOW(ioctl(outside, TIOCSWINSZ, &size));
    size = (struct winsize) { 0 };
    SHOW(ioctl(inside, TIOCGWINSZ, &size));
    printf("%d %d %d %d\n", size.ws_row, size.ws_col, size.ws_xpixel, size.ws_ypixel);
    int value = -1;
    SHOW(ioctl(inside, TIOCOUTQ, &value));
    printf("%d\n", value);
    SHOW(ioctl(inside, TIOCGETD, &value));
    printf("%d\n", value);
    value = 0;
    SHOW(ioctl(inside, TIOCSETD, &value));
    SHOW(ioctl(inside, TIOCEXCL, 0));
    SHOW(ioctl(inside, TIOCGEXCL, &value));
    printf("%d\n", value);
    SHOW(ioctl(inside, TIOCNXCL, 0));
    struct { unsigned short flags[4]; unsigned char line, cc[8]; } old = { 0 };
    SHOW(ioctl(inside, TCGETA, &old));
    printf("%x %x %x %x %x\n", old.flags[0], old.flags[1], old.flags[2], old.flags[3], old.cc[0]);
    old.cc[0] = 7;
    SHOW(ioctl(inside, TCSETA, &old));
    print_settings(inside);
    SHOW(ioctl(inside, TIOCGPGRP, &value));
    SHOW(ioctl(outside, TIOCGPGRP, &value));
    printf("%d\n", value);
    SHOW(ioctl(inside, TIOCGSID, &value));
    SHOW(ioctl(outside, TIOCGSID, &value));
    SHOW(ioctl(inside, TIOCNOTTY, 0));
    SHOW(ioctl(outside, TIOCSPGRP, &value));
    SHOW(ioctl(outside, TIOCSIG, SIGUSR1));
    SHOW(ioctl(outside, TIOCSIG, SIGINT));
}

static void packets(void)
{
    int on = 1;
    SHOW(ioctl(outside, TIOCPKT, &on));
    SHOW(ioctl(inside, TIOCPKT, &on));
    on = 0;
    SHOW(ioctl(outside, TIOCGPKT, &on));
    printf("%d\n", on);
    MUST(write(inside, "data", 4));
    wait_for(outside, POLLIN);
    got(outside, 100);
    SHOW(tcflush(inside, TCIFLUSH));
    TRUTH(wait_for(outside, POLLPRI) & POLLPRI);
    ready("the outside", outside);
    got(outside, 100);
    SHOW(tcflush(inside, TCOFLUSH));
    got(outside, 100);
    SHOW(tcflow(inside, TCOOFF));
    SHOW(tcflow(inside, TCOON));
    got(outside, 100);
    struct termios t;
    MUST(tcgetattr(inside, &t));
    t.c_iflag &= ~IXON;
    MUST(tcsetattr(inside, TCSANOW, &t));
    got(outside, 100);
    t.c_iflag |= IXON;
    MUST(tcsetattr(inside, TCSANOW, &t));
    got(outside, 100);
    t.c_lflag |= EXTPROC;
    MUST(tcsetattr(inside, TCSANOW, &t));
    got(outside, 100);
    t.c_lflag &= ~EXTPROC;
    MUST(tcsetattr(inside, TCSANOW, &t));
    got(outside, 100);
    on = 0;
    SHOW(ioctl(outside, TIOCPKT, &on));
}

static void ends(void)
{
    MUST(write(inside, "last", 4));
    int second = MUST(dup(inside));
    close(inside);
    ready("the outside", outside);
    close(second);
    shown(4);
    TRUTH(wait_for(outside, POLLIN) & POLLHUP);
    ready("the outside of a deserted terminal", outside);
    got(outside, 10);
    inside = MUST(ioctl(outside, TIOCGPTPEER, O_RDWR | O_NOCTTY));
    ready("the outside", outside);
    MUST(write(inside, "again", 5));
    shown(5);
    typed("unread\n");
    close(outside);
    ready("the inside that was hung up", inside);
    got(inside, 10);
    SHOW(write(inside, "x", 1));
    int value = 0;
    SHOW(ioctl(inside, TIOCGWINSZ, &value));
    SHOW(ioctl(inside, TIOCSPGRP, &value));
    SHOW(ioctl(inside, FIONREAD, &value));
    print_settings(inside);
    SHOW(close(inside));
}

int main(void)
{
    signal(SIGHUP, SIG_IGN);
    opening();
    lines();
    long_lines();
    raw_bytes();
    settings();
    packets();
    ends();
    return 0;
}
