/* Thousands of threads at once, most of them asleep: each is woken, counts, and ends. */
#include "show.h"
#include <pthread.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t all_here = PTHREAD_COND_INITIALIZER, go = PTHREAD_COND_INITIALIZER;
static long here, gone, wanted;
static int started;

static void *join_in(void *argument)
{
    pthread_mutex_lock(&mutex);
    if (++here == wanted)
        pthread_cond_signal(&all_here);
    while (!started)
        pthread_cond_wait(&go, &mutex);
    gone++;
    pthread_mutex_unlock(&mutex);
    return argument;
}

int main(int count, char **arguments)
{
    wanted = count > 1 ? atol(arguments[1]) : 4000;
    pthread_t *threads = calloc((size_t)wanted, sizeof *threads);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 64 << 10);
    for (long at = 0; at < wanted; at++) {
        int result = pthread_create(&threads[at], &attributes, join_in, (void *)at);
        if (result != 0) {
            printf("set-up failed: thread %ld: %s\n", at, error_name(result));
            return 99;
        }
    }
    pthread_mutex_lock(&mutex);
    while (here != wanted)
        pthread_cond_wait(&all_here, &mutex);
    started = 1;
    pthread_cond_broadcast(&go);
    pthread_mutex_unlock(&mutex);
    long sum = 0;
    for (long at = 0; at < wanted; at++) {
        void *result;
        pthread_join(threads[at], &result);
        sum += (long)result;
    }
    printf("%ld here, %ld gone, sum %ld\n", here, gone, sum);
    return 0;
}
