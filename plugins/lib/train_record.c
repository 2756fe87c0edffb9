/* train_record.c: a piece's work by one call to the device, where it records; see train.h and mbk_capture_begin.
 *
 * The first piece of a shape is done by calls, so that scratch memory and plans for its products are there; the second one's calls are recorded,
 * and all from there on replay them. What comes out has the same bits. If a recording can't be made, training goes on by calls.
 */
#include "train.h"

#include <stdlib.h>

static bool same_shape(const struct mbl_shape *a, const struct mbl_shape *b) {
    return a->rows == b->rows && a->width == b->width && a->opens == b->opens && a->closes == b->closes;
}

static struct mbl_recording *find(struct mbl_trainer *t, const struct mbl_shape *shape) {
    for (int i = 0; i < t->recording_count; i++)
        if (same_shape(&t->recordings[i].shape, shape)) return &t->recordings[i];
    return NULL;
}

static void note(struct mbl_trainer *t, const struct mbl_shape *shape) {
    if (t->recording_count == MBL_MOST_RECORDINGS) return;
    if (!t->recordings) t->recordings = mbl_alloc(MBL_MOST_RECORDINGS * sizeof *t->recordings);
    t->recordings[t->recording_count++] = (struct mbl_recording){.shape = *shape};
}

/* Leaves the graph in `r`, or the reason in `why`. */
static int record(struct mbl_trainer *t, struct mbl_recording *r, int (*work)(void *, struct mbl_error *), void *context,
                  struct mbl_error *why) {
    struct mbk *k = t->model->k;
    if (mbk_capture_begin(k)) return mbl_kernel_failed(k, "recording a step", why);
    int failed = work(context, why);
    if (mbk_capture_end(k, &r->graph) && !failed) failed = mbl_kernel_failed(k, "recording a step", why);
    if (!failed) return 0;
    mbk_graph_free(k, r->graph);
    r->graph = NULL;
    return -1;
}

int mbl_trainer_work(struct mbl_trainer *t, const struct mbl_shape *shape, int (*work)(void *context, struct mbl_error *e), void *context,
                     struct mbl_error *e) {
    struct mbk *k = t->model->k;
    struct mbl_recording *r = t->records && !*t->unrecorded.text ? find(t, shape) : NULL;
    if (!r) {
        if (t->records && !*t->unrecorded.text) note(t, shape);
        return work(context, e);
    }
    int status = r->graph ? mbk_replay(k, r->graph) : 1;
    if (status == 1) { /* never recorded, or it points to memory that is gone */
        mbk_graph_free(k, r->graph);
        r->graph = NULL;
        if (record(t, r, work, context, &t->unrecorded)) return work(context, e);
        status = mbk_replay(k, r->graph);
    }
    if (status) return mbl_kernel_failed(k, "a recorded step", e);
    t->replays++;
    return 0;
}

void mbl_trainer_forget(struct mbl_trainer *t) {
    for (int i = 0; i < t->recording_count; i++) mbk_graph_free(t->model->k, t->recordings[i].graph);
    t->recording_count = 0;
}
