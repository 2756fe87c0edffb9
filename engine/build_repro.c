/* build_repro.c: --check-repro: a step that says it is deterministic runs twice, from the same inputs into different folders, and both must
 * make the same bytes.
 */
#include "build_private.h"

#include <stdlib.h>
#include <string.h>

bool repro_run_again(struct build_step *bs) {
    const struct session *s = bs->build->session;
    struct err ignored;
    if (!s->options->check_repro || bs->first_folder || !(s->graph.steps[bs->step].binding->type->flags & MB_DETERMINISTIC)) return false;
    bs->first = arena_alloc(&bs->arena, (bs->output_count + 1) * sizeof *bs->first);
    if (bs->output_count) memcpy(bs->first, bs->outputs, bs->output_count * sizeof *bs->first);
    bs->first_count = bs->output_count;
    bs->first_folder = bs->folder;
    bs->folder = NULL;
    if (bs->checkpoint) sys_remove_tree(bs->checkpoint, &ignored); /* the second must not begin where the first ended */
    return true;
}

/* Where two files differ first, counted from 0; -1 if that can't be told. */
static long long first_difference(const char *a, const char *b) {
    struct buf x = {0}, y = {0};
    struct err ignored;
    long long at = -1;
    if (!sys_read_file(a, &x, &ignored) && !sys_read_file(b, &y, &ignored)) {
        size_t i = 0;
        while (i < x.len && i < y.len && x.data[i] == y.data[i]) i++;
        at = (long long)i;
    }
    buf_free(&x);
    buf_free(&y);
    return at;
}

static int compare_output(const struct placed *a, const struct placed *b, struct err *e) {
    struct artifact one, two;
    if (digest_path(a->private_path, false, &one, NULL, e) || digest_path(b->private_path, false, &two, NULL, e)) return -1;
    if (artifact_same(&one, &two)) return 0;
    long long at = one.type == ARTIFACT_FILE && two.type == ARTIFACT_FILE ? first_difference(a->private_path, b->private_path) : -1;
    if (at < 0) return err_set(e, "the step isn't reproducible: two runs gave different outputs \"%s\" (%s)", a->role, a->path);
    return err_set(e, "the step isn't reproducible: two runs gave different outputs \"%s\" (%s), first at byte %lld", a->role, a->path, at);
}

int repro_compare(const struct build_step *bs, struct err *e) {
    if (!bs->first_folder) return 0;
    if (bs->first_count != bs->output_count)
        return err_set(e, "the step isn't reproducible: one run made %u outputs, the other %u", bs->first_count, bs->output_count);
    for (uint32_t i = 0; i < bs->output_count; i++)
        if (compare_output(&bs->first[i], &bs->outputs[i], e)) return -1;
    return 0;
}
