/* A snapshot of any bytes: opened, compared and thawed without a step outside of what was mapped. The checksums are made right first, so
 * that it's the bounds that are put to the test.
 */
#include "snapshot_private.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static char folder[] = "/tmp/mbuild-fuzz-XXXXXX";
static struct options options;
static struct session session;

static void leave(void) {
    struct err ignored;
    state_close(session.state);
    graph_free(&session.graph);
    sys_remove_tree(folder, &ignored);
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    struct err e;
    char *note = NULL;
    (void)argc, (void)argv;
    if (!mkdtemp(folder) || chdir(folder) || sys_mkdirs(".mbuild/snapshot", &e)) abort();
    session.options = &options;
    session.device = "cpu";
    session.root = "/repo";
    graph_init(&session.graph, session.root);
    if (state_open(".mbuild/state.db", false, &session.state, &note, &e)) abort();
    free(note);
    atexit(leave);
    return 0;
}

/* Makes of the bytes a snapshot that is this question's answer, as far as sums and magic go. */
static void make_right(unsigned char *bytes, size_t size, const struct digest *question) {
    struct snap_head h;
    if (size < sizeof h) return;
    memcpy(&h, bytes, sizeof h);
    memcpy(h.magic, SNAPSHOT_MAGIC, sizeof h.magic);
    h.version = SNAPSHOT_VERSION;
    memcpy(h.question, question->bytes, sizeof h.question);
    uint64_t cold = h.sections[SNAP_FACTS].offset;
    if (cold >= sizeof h && cold <= size) {
        h.cold_sum = snapshot_sum(bytes + cold, size - cold, 2);
        h.hot_sum = snapshot_hot_sum(bytes, &h);
    }
    memcpy(bytes, &h, sizeof h);
}

static void check_slots(const struct slot *slots, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        if (slots[i].file >= session.graph.paths.count || strlen(slots[i].role) > UINT32_MAX / 2) abort();
}

static void check_thawed(const uint32_t *steps, uint32_t count) {
    const struct graph *g = &session.graph;
    for (uint32_t i = 0; i < count; i++)
        if (steps[i] >= g->step_count) abort();
    for (uint32_t i = 0; i < g->step_count; i++) {
        check_slots(g->steps[i].inputs, g->steps[i].input_count);
        check_slots(g->steps[i].outputs, g->steps[i].output_count);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct digest question;
    struct err e;
    char *path = snapshot_path(&session, &question);
    unsigned char *bytes = mem_alloc(size + 1);
    memcpy(bytes, data, size);
    make_right(bytes, size, &question);
    if (sys_write_file(path, bytes, size, false, &e)) abort();
    free(bytes);
    free(path);
    struct snapshot *snap = snapshot_open(&session);
    if (!snap) return 0;
    snapshot_check(snap);
    snap->dirty = mem_grow(snap->dirty, &snap->dirty_cap, snap->entry_count, sizeof *snap->dirty);
    for (snap->dirty_count = 0; snap->dirty_count < snap->entry_count; snap->dirty_count++) snap->dirty[snap->dirty_count] = snap->dirty_count; /* all */
    if (strlen(snapshot_nothing(snap)) > size) abort();
    uint32_t *steps = NULL, count = 0;
    if (!snapshot_thaw(snap, &session, &steps, &count, &e)) check_thawed(steps, count);
    free(steps);
    snapshot_close(snap);
    graph_free(&session.graph);
    graph_init(&session.graph, session.root);
    return 0;
}
