// What the programs share that fault injection runs: every result is checked; a call that fails is reported by name on standard
// error, with status 3. Wrong data is status 4.
#ifndef INJECTED_H
#define INJECTED_H
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static inline void fail(const char *what) {
    dprintf(2, "injected: %s: %s\n", what, strerror(errno));
    _exit(3);
}

static inline void wrong(const char *what) {
    dprintf(2, "injected: WRONG: %s\n", what);
    _exit(4);
}

// The result of a call that answers -1 if it fails.
static inline int must(int result, const char *what) {
    if (result == -1) fail(what);
    return result;
}

static inline void put(int fd, const void *from, size_t length, const char *what) {
    for (size_t at = 0; at < length;) {
        ssize_t count = write(fd, (const char *)from + at, length - at);
        if (count <= 0) fail(what);
        at += (size_t)count;
    }
}

// Reads up to `length` bytes, or up to the end.
static inline size_t get(int fd, void *to, size_t length, const char *what) {
    size_t at = 0;
    while (at < length) {
        ssize_t count = read(fd, (char *)to + at, length - at);
        if (count < 0) fail(what);
        if (count == 0) break;
        at += (size_t)count;
    }
    return at;
}

static inline void say(const char *text) {
    put(1, text, strlen(text), "write to standard output");
}

// Bytes that differ from their neighbours, and from page to page.
static inline void fill(unsigned char *data, size_t size) {
    for (size_t i = 0; i < size; i++) data[i] = (unsigned char)(i * 7 + (i >> 8));
}

#endif
