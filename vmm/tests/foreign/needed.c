/* A library that an object needs beside itself. */

__attribute__((visibility("default"))) int needed(void)
{
    return 1;
}
