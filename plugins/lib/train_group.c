/* train_group.c: one training on several devices; see train.h.
 *
 * Each has a copy of the model, the same to the bit, and all rows. The pieces of a step are shared out by turns; the gradients, each already
 * divided by all that the step counts, are added up over the devices; then all update alike. So the outcome is that of one device with as many
 * pieces, but for the order in which gradients are added. One thread hands out the work, which on a GPU takes it no time to speak of.
 */
#include "train.h"

#include <stdlib.h>

/* What a device holds, to another one, by way of the host: for set-up alone. */
static int move(struct mbk *from_k, const void *from, struct mbk *to_k, void *to, size_t bytes, struct mbl_error *e) {
    void *host;
    if (mbl_try_alloc(&host, bytes, 1, "a copy for another device", e)) return -1;
    int status = mbk_read(from_k, host, from, bytes) ? mbl_kernel_failed(from_k, "reading for another device", e)
                 : mbk_write(to_k, to, host, bytes)  ? mbl_kernel_failed(to_k, "writing to another device", e)
                                                     : 0;
    free(host);
    return status;
}

/* The same model on another stream, before either computes in anything else than its config says. */
static int copy_model(const struct mbl_model *from, struct mbk *k, struct mbl_model **out, struct mbl_error *e) {
    if (mbl_model_create(k, from->config, out, e) || mbl_model_allocate(*out, e)) return -1;
    if ((*out)->block_bytes != from->block_bytes)
        return mbl_error_set(e, "a model of this kind can't be copied to another device: its weights take %zu bytes there, not %zu",
                             (*out)->block_bytes, from->block_bytes);
    return move(from->k, from->values, k, (*out)->values, from->block_bytes, e);
}

static int create_other(const struct mbl_trainer *t, struct mbk *k, struct mbl_trainer *o, struct mbl_error *e) {
    *o = (struct mbl_trainer){.options = t->options, .teacher = t->teacher, .steps_per_epoch = t->steps_per_epoch, .per_token = t->per_token,
                              .piece_rows = t->piece_rows, .pieces_per_step = t->pieces_per_step, .capacity = t->capacity};
    o->options.early_stop = false; /* the best weights are the leader's to keep */
    if (copy_model(t->model, k, &o->model, e) || (t->teacher_model && copy_model(t->teacher_model, k, &o->teacher_model, e))) return -1;
    o->train = mbl_alloc(sizeof *o->train);
    mbl_feed_share(t->train, o->model, o->train);
    return 0;
}

int mbl_group_create(struct mbl_trainer *t, struct mbl_error *e) {
    int count = t->stream_count;
    if (!count) return 0;
    if (t->model->architecture->takes == MBL_TAKES_PAIRS) return mbl_error_set(e, "a recommender learns on one device: gpu = 1");
    struct mbk **all = mbl_alloc((size_t)(count + 1) * sizeof *all);
    t->others = mbl_alloc((size_t)count * sizeof *t->others);
    t->gradients = mbl_alloc((size_t)(count + 1) * sizeof *t->gradients);
    all[0] = t->model->k;
    for (int i = 0; i < count; i++) all[i + 1] = t->streams[i];
    int status = mbk_comm_open(all, count + 1, &t->comm, e->text, sizeof e->text);
    if (status) mbl_error_wrap(e, "training on %d devices (for NCCL a step needs network = true)", count + 1);
    for (int i = 0; i < count && !status; i++) status = create_other(t, t->streams[i], &t->others[i], e);
    free(all);
    return status;
}

void mbl_group_close(struct mbl_trainer *t) {
    mbk_comm_close(t->comm);
    t->comm = NULL;
    for (int i = 0; t->others && i < t->stream_count; i++) {
        struct mbl_model *model = t->others[i].model, *teacher = t->others[i].teacher_model;
        struct mbl_feed *feed = t->others[i].train;
        mbl_trainer_close(&t->others[i]);
        if (feed) mbl_feed_close(feed);
        free(feed);
        mbl_model_free(teacher);
        mbl_model_free(model);
    }
    free(t->others);
    free(t->gradients);
    t->others = NULL;
    t->gradients = NULL;
}

/* The block that holds all gradients. */
int mbl_group_sum(struct mbl_trainer *t, struct mbl_error *e) {
    int count = t->stream_count + 1;
    for (int i = 0; i < count; i++) {
        const struct mbl_model *m = mbl_trainer_member(t, i)->model;
        t->gradients[i] = mbk_tensor1(m->gradients, MBK_F32, (int64_t)(m->block_bytes / sizeof(float)));
    }
    return mbk_all_reduce(t->comm, t->gradients) ? mbl_kernel_failed(t->model->k, "the gradients' sum", e) : 0;
}

/* A member's entries of an array, into the leader's; `host` has room for the whole array. */
static int gather(struct mbl_trainer *t, int rank, enum mbl_array array, void *host, struct mbl_error *e) {
    struct mbl_trainer *m = mbl_trainer_member(t, rank);
    struct mbk_tensor *to = &t->arrays[array];
    if (mbk_read(m->model->k, host, m->arrays[array].data, mbk_bytes(to))) return mbl_kernel_failed(m->model->k, "an epoch's losses", e);
    for (int64_t i = 0; i < t->piece_count; i++) {
        const struct mbl_piece *p = &t->pieces[i];
        int64_t of_step = i % t->pieces_per_step;
        if (p->first < t->gathered || p->first >= t->position || of_step % (t->stream_count + 1) != rank) continue;
        struct mbk_tensor entries = mbk_rows(to, p->at, p->entries);
        if (mbk_write(t->model->k, entries.data, (const char *)host + ((char *)entries.data - (char *)to->data), mbk_bytes(&entries)))
            return mbl_kernel_failed(t->model->k, "an epoch's losses", e);
    }
    return 0;
}

int mbl_group_gather(struct mbl_trainer *t, struct mbl_error *e) {
    for (int rank = 1; rank <= t->stream_count; rank++)
        if (gather(t, rank, MBL_LOSSES, t->host_losses, e) || gather(t, rank, MBL_PREDICTIONS, t->host_predictions, e)) return -1;
    t->gathered = t->position;
    return 0;
}

int mbl_group_spread(struct mbl_trainer *t, struct mbl_error *e) {
    size_t block = t->model->block_bytes;
    for (int i = 0; i < t->stream_count; i++) {
        struct mbl_trainer *o = &t->others[i];
        if (move(t->model->k, t->model->values, o->model->k, o->model->values, block, e) ||
            move(t->model->k, t->moments, o->model->k, o->moments, 2 * block, e) || mbl_model_refresh(o->model, e))
            return -1;
    }
    return 0;
}
