/* replay.c: the main of a fuzz program where there is no fuzzer: puts its corpus through it.
 *
 * tests/fuzz/NAME.c defines LLVMFuzzerTestOneInput, as libFuzzer wants it; the files in tests/fuzz/corpus/NAME are
 * inputs that once were, or could well be, a problem. So every compiler's `make check` guards what a
 * fuzzer found. The program counts as one test: a crash ends it, after it has named the file. */
#include <dirent.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
extern int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));

/* Exactly as large as the input, so that a read past its end is seen by AddressSanitizer. */
static int replay_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f || fseek(f, 0, SEEK_END)) {
        perror(path);
        return -1;
    }
    long size = ftell(f);
    uint8_t *data = malloc(size > 0 ? (size_t)size : 1);
    rewind(f);
    if (size < 0 || !data || fread(data, 1, (size_t)size, f) != (size_t)size) {
        perror(path);
        fclose(f);
        free(data);
        return -1;
    }
    fclose(f);
    LLVMFuzzerTestOneInput(data, (size_t)size);
    free(data);
    return 0;
}

static int is_input(const struct dirent *d)
{
    return d->d_name[0] != '.';
}

int main(int argc, char **argv)
{
    const char *source = getenv("MB_SOURCE"), *slash = strrchr(argv[0], '/');
    const char *name = slash ? slash + 1 : argv[0];
    char folder[PATH_MAX], path[PATH_MAX];
    struct dirent **inputs;
    if (LLVMFuzzerInitialize)
        LLVMFuzzerInitialize(&argc, &argv);
    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    if (snprintf(folder, sizeof folder, "%s/tests/fuzz/corpus/%s", source ? source : ".", name) >= (int)sizeof folder)
        return 2;
    int n = scandir(folder, &inputs, is_input, alphasort), failed = 0;
    if (n <= 0) {
        printf("not ok fuzz target %s has a corpus: nothing in tests/fuzz/corpus/%s\n", name, name);
        return 1;
    }
    for (int i = 0; i < n; i++) {
        if (snprintf(path, sizeof path, "%s/%s", folder, inputs[i]->d_name) >= (int)sizeof path)
            failed = 1;
        else {
            fprintf(stderr, "%s\n", inputs[i]->d_name);
            failed |= replay_file(path) != 0;
        }
        free(inputs[i]);
    }
    free(inputs);
    printf("%s fuzz target %s stands its corpus of %d inputs%s\n", failed ? "not ok" : "ok", name, n,
           failed ? ": some could not be read" : "");
    return failed;
}
