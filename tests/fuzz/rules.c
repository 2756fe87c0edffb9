/* rules_evaluate on anything that calls itself a rule file: it ends, within its limits, and what it leaves is a graph that holds
 * together or a message that can be read. Functions that define steps are run as far as their first wish.
 */
#include "rules.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static char library[PATH_MAX], folder[] = "/tmp/mbuild-fuzz-XXXXXX";

static void leave(void) {
    rmdir(folder);
}

/* The standard library lies below one of the folders above this program; the repo is an empty one. */
int LLVMFuzzerInitialize(int *argc, char ***argv) {
    char here[PATH_MAX];
    (void)argc, (void)argv;
    ssize_t n = readlink("/proc/self/exe", here, sizeof here - 1);
    if (n < 0) abort();
    here[n] = 0;
    for (char *slash; (slash = strrchr(here, '/'));) {
        *slash = 0;
        snprintf(library, sizeof library, "%.4000s/share/mbuild/rules", here);
        if (!access(library, R_OK)) break;
    }
    if (access(library, R_OK) || !mkdtemp(folder) || chdir(folder)) {
        fprintf(stderr, "no share/mbuild/rules above this program: make it first\n");
        abort();
    }
    atexit(leave);
    return 0;
}

static void check_slots(const struct graph *g, const struct slot *slots, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        if (slots[i].file >= g->paths.count || !*g->files[slots[i].file].path || !slots[i].role) abort();
}

static void check_graph(const struct graph *g) {
    for (uint32_t i = 0; i < g->step_count; i++) {
        const struct step *s = &g->steps[i];
        if (!s->name || !*s->name || !s->where || graph_find_step(g, s->name) != i) abort();
        check_slots(g, s->inputs, s->input_count);
        check_slots(g, s->outputs, s->output_count);
        for (uint32_t k = 0; k < s->output_count; k++)
            if (!s->outputs[k].shared && graph_producer(g, s->outputs[k].file) != i) abort();
    }
}

static void check_error(const struct err *e) {
    if (!memchr(e->text, 0, sizeof e->text) || !*e->text) abort();
}

static void want_all(struct graph *g) {
    uint32_t *all = mem_alloc((g->step_count + 1) * sizeof *all), *order = NULL, count = 0;
    struct err e;
    for (uint32_t i = 0; i < g->step_count; i++) all[i] = i;
    if (graph_want(g, all, g->step_count, &order, &count, &e)) check_error(&e);
    else if (count < g->step_count) abort();
    free(order);
    free(all);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const settings[] = {"lr=3"};
    char path[64];
    struct graph g;
    struct rules_seen seen = {0};
    struct rules *rules = NULL;
    struct err e = {{0}};
    int fd = memfd_create("rules", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    struct rules_options o = {.file = path, .library = library, .settings = settings, .setting_count = size % 2, .memory_most = (size_t)32 << 20,
                              .instructions_most = 2000000};
    graph_init(&g, folder);
    if (rules_evaluate(&g, &o, &seen, &rules, &e)) {
        check_error(&e);
    } else {
        check_graph(&g);
        for (uint32_t i = 0; rules && i < g.step_count && i < 20; i++) {
            enum rules_answer answer = RULES_DEFINED;
            const uint32_t *needs;
            uint32_t count = 0;
            if (!g.steps[i].dynamic) continue;
            if (rules_define(rules, i, &answer, &needs, &count, &e)) check_error(&e);
            for (uint32_t k = 0; answer == RULES_NEEDS && k < count; k++)
                if (needs[k] >= g.step_count) abort();
        }
        check_graph(&g);
        want_all(&g);
    }
    rules_free(rules);
    free(seen.files);
    free(seen.globs);
    free(seen.folders);
    graph_free(&g);
    close(fd);
    return 0;
}
