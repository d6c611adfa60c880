/* The smallest program that does something: what starting a process costs. */
#include <stdio.h>

int main(void) {
    puts("hello");
    return 0;
}
