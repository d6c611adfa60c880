// What fault injection runs in a terminal: asks for its size, reads a line and a key, prints.
#include "injected.h"
#include <sys/ioctl.h>
#include <termios.h>

static void window(void) {
    struct winsize size, other = { .ws_row = 40, .ws_col = 120 }, now;
    must(ioctl(0, TIOCGWINSZ, &size), "window size");
    // The caller's, or what a terminal has that does not tell.
    int callers = size.ws_row == 33 && size.ws_col == 101, usual = size.ws_row == 24 && size.ws_col == 80;
    if (!callers && !usual) wrong("window size");
    must(ioctl(0, TIOCSWINSZ, &other), "change of the window size");
    must(ioctl(1, TIOCGWINSZ, &now), "window size");
    if (now.ws_row != 40 || now.ws_col != 120) wrong("changed window size");
}

static void line(void) {
    char text[64];
    struct termios modes;
    must(tcgetattr(0, &modes), "tcgetattr");
    // As the caller's terminal has it; one that could not be asked may have an echo.
    modes.c_lflag &= ~(tcflag_t)ECHO;
    must(tcsetattr(0, TCSADRAIN, &modes), "tcsetattr");
    say("name? ");
    int count = must((int)read(0, text, sizeof text - 1), "read of the line");
    if (count == 0) fail("read of the line: end");
    text[count] = 0;
    if (strcmp(text, "Ada Lovelace\n")) wrong("the line");
    say("hello ");
    say(text);
}

static void key(void) {
    struct termios modes, keys, after;
    must(tcgetattr(0, &modes), "tcgetattr");
    if (!(modes.c_lflag & ICANON) || modes.c_lflag & ECHO) wrong("modes");
    keys = modes;
    keys.c_lflag &= ~(tcflag_t)ICANON;
    must(tcsetattr(0, TCSADRAIN, &keys), "tcsetattr");
    say("key? ");
    char typed;
    int count = must((int)read(0, &typed, 1), "read of the key");
    if (count == 0) fail("read of the key: end");
    if (typed != 'k') wrong("the key");
    must(tcsetattr(0, TCSADRAIN, &modes), "tcsetattr");
    must(tcgetattr(0, &after), "tcgetattr");
    if (after.c_lflag != modes.c_lflag || after.c_iflag != modes.c_iflag) wrong("modes afterwards");
    say("\n");
}

int main(void) {
    if (!isatty(0) || !isatty(1) || !ttyname(0)) fail("no terminal");
    window();
    line();
    key();
    static char text[300 * 64];
    size_t length = 0;
    for (int i = 0; i < 300; i++) length += (size_t)sprintf(text + length, "line %d of a text that is longer than a piece\n", i);
    put(1, text, length, "write of the text");
    say("done\n");
    return 0;
}
