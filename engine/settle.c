/* settle.c: from a step's private folder into the store and the repo, or from the store back; see build_private.h.
 *
 * These run on job threads: they touch their own build_step, the store and the disk, nothing else.
 */
#include "build_private.h"
#include "files.h"

#include <string.h>

static int check_made(struct placed *o, struct err *e) {
    struct file_stat st;
    if (sys_stat(o->private_path, true, &st, e)) return -1;
    o->made = st;
    if (st.kind == FILE_ABSENT) return err_set(e, "the step ended well, but didn't make its output \"%s\" (%s)", o->role, o->path);
    if (st.kind == FILE_OTHER) return err_set(e, "the output \"%s\" (%s) is neither file, folder nor link", o->role, o->path);
    if (o->folder && st.kind != FILE_FOLDER) return err_set(e, "the output \"%s\" (%s) is a file; its role says that it is a folder", o->role, o->path);
    return 0;
}

/* A file added to a shared folder must be new, or the same. */
static int check_added(const struct placed *o, struct err *e) {
    struct artifact there;
    if (digest_path(o->path, false, &there, NULL, e)) return -1;
    if (there.type == ARTIFACT_NONE || artifact_same(&there, &o->artifact)) return 0;
    return err_set(e, "%s already exists with other content, and files there are never changed", o->path);
}

static int place(const struct placed *o, struct err *e) {
    if (!sys_rename(o->private_path, o->path, e)) return 0; /* mostly the folders are there: others' outputs lie in them */
    if (!sys_mkdir_parents(o->path, e) && !sys_rename(o->private_path, o->path, e)) return 0;
    return err_wrap(e, "cannot put %s in place", o->path);
}

void settle_built(void *arg) {
    struct build_step *bs = arg;
    struct store *store = bs->build->session->store;
    struct err *e = &bs->error;
    bs->status = 0;
    for (uint32_t i = 0; i < bs->output_count && !bs->status; i++) bs->status = check_made(&bs->outputs[i], e);
    if (!bs->status) bs->status = repro_compare(bs, e);
    for (uint32_t i = 0; i < bs->output_count && !bs->status; i++) {
        struct placed *o = &bs->outputs[i];
        bs->status = store_put_known(store, o->private_path, &o->made, &o->artifact, e);
        if (bs->status) err_wrap(e, "cannot store %s", o->path);
        if (!bs->status && o->added) bs->status = check_added(o, e);
    }
    for (uint32_t i = 0; i < bs->output_count && !bs->status; i++) bs->status = place(&bs->outputs[i], e);
    struct err ignored;
    if (!bs->status && bs->checkpoint) sys_remove_tree(bs->checkpoint, &ignored); /* what stays is only cleaned later */
    sys_remove_private(bs->folder, &ignored);
    if (bs->first_folder) sys_remove_tree(bs->first_folder, &ignored);
}

void settle_restored(void *arg) {
    struct build_step *bs = arg;
    bs->status = 0;
    bs->corrupt = false;
    for (uint32_t i = 0; i < bs->output_count && !bs->status; i++) {
        struct placed *o = &bs->outputs[i];
        if (o->stands) continue;
        bs->status = sys_mkdir_parents(o->path, &bs->error);
        if (!bs->status && o->added) bs->status = check_added(o, &bs->error);
        if (!bs->status) bs->status = store_get(bs->build->session->store, &o->artifact, o->path, &bs->corrupt, &bs->error);
    }
}

/* A source that changed while the step read it: what came out belongs to neither state. */
int settle_inputs_unchanged(struct build_step *bs, struct err *e) {
    struct graph *g = &bs->build->session->graph;
    const struct step *step = &g->steps[bs->step];
    for (uint32_t i = 0; i < step->input_count; i++) {
        const struct file *f = &g->files[step->inputs[i].file];
        struct file_stat now;
        struct artifact a;
        if (f->secret || graph_producer(g, step->inputs[i].file) != NO_ID) continue;
        if (sys_stat(f->path, false, &now, e)) return -1;
        if (now.kind == FILE_REGULAR && file_stat_same(&now, &f->stat)) continue;
        if (digest_path(f->path, true, &a, NULL, e)) return -1;
        if (!artifact_same(&a, &f->artifact)) return err_set(e, "the input %s changed while the step ran; run mbuild again", f->path);
    }
    return 0;
}
