/* measure.c: times whole processes, for benchmarks.
 *
 *     measure RUNS [--before SHELL-COMMAND] COMMAND…     prints the median wall time in ms and the peak memory in KiB
 *     measure --stat LIST                                a bare loop of statx over the files that LIST names: the floor
 *
 * The command's output goes nowhere; a status other than 0 or 1 is an error. Must not know anything of mbuild.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int run(char **command, long *peak_kib) {
    struct rusage used;
    int status;
    pid_t pid = fork();
    if (pid < 0) return -1;
    if (!pid) {
        int null = open("/dev/null", O_RDWR);
        if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0) _exit(127);
        execvp(command[0], command);
        _exit(127);
    }
    while (wait4(pid, &status, 0, &used) < 0)
        if (errno != EINTR) return -1;
    if (used.ru_maxrss > *peak_kib) *peak_kib = used.ru_maxrss;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static int stat_all(const char *list) {
    FILE *f = fopen(list, "r");
    char path[4096];
    long count = 0;
    if (!f) return 2;
    while (fgets(path, sizeof path, f)) {
        struct statx st;
        path[strcspn(path, "\n")] = 0;
        if (statx(AT_FDCWD, path, 0, STATX_BASIC_STATS, &st)) return 2;
        count++;
    }
    fclose(f);
    return count ? 0 : 2;
}

int main(int argc, char **argv) {
    if (argc == 3 && !strcmp(argv[1], "--stat")) return stat_all(argv[2]);
    int runs = argc > 2 ? atoi(argv[1]) : 0, first = 2;
    const char *before = NULL;
    if (argc > 4 && !strcmp(argv[2], "--before")) {
        before = argv[3];
        first = 4;
    }
    if (runs < 1 || runs > 1000 || first >= argc) {
        fprintf(stderr, "usage: measure RUNS [--before SHELL-COMMAND] COMMAND…\n");
        return 2;
    }
    double times[1000];
    long peak_kib = 0;
    for (int i = 0; i < runs; i++) {
        if (before && system(before)) return 2;
        double start = now_ms();
        int status = run(argv + first, &peak_kib);
        times[i] = now_ms() - start;
        if (status != 0 && status != 1) {
            fprintf(stderr, "measure: %s ended with status %d\n", argv[first], status);
            return 2;
        }
    }
    qsort(times, (size_t)runs, sizeof *times, compare);
    printf("%.2f %ld\n", times[runs / 2], peak_kib);
    return 0;
}
