/* Arguments, environment, formatted output, exit status. */
#include "show.h"

extern char **environ;

int main(int argc, char **argv)
{
    printf("hello, %d arguments, %.3f\n", argc - 1, 3.14159);
    for (int i = 1; i < argc; i++)
        printf("argument %d: %s\n", i, argv[i]);
    for (char **e = environ; *e; e++)
        printf("environment: %s\n", *e);
    TRUTH(argv[argc] == NULL);
    fprintf(stderr, "to standard error\n");
    return argc > 1 ? atoi(argv[1]) : 0;
}
