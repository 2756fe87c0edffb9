/* train_checkpoint.c: a trainer's state in one file, written whole or not at all; see train.h.
 *
 * The folder belongs to one key of one step, so a checkpoint found there is of the same data, parameters and plugin. What it needn't be is
 * whole: a digest over everything tells.
 */
#include "sha256.h"
#include "train.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHECKPOINT_VERSION 1

enum { WEIGHTS, MOMENTS, KEPT, LOSSES, PREDICTIONS, PARTS };
static const char *const part_names[PARTS] = {"weights", "moments", "best", "losses", "predictions"};

struct part {
    void *device;
    size_t bytes;
};

static void list_parts(const struct mbl_trainer *t, struct part parts[PARTS]) {
    size_t block = t->model->block_bytes;
    parts[WEIGHTS] = (struct part){t->model->values, block};
    parts[MOMENTS] = (struct part){t->moments, 2 * block};
    parts[KEPT] = (struct part){t->kept, t->kept ? block : 0};
    parts[LOSSES] = (struct part){t->arrays[MBL_LOSSES].data, mbk_bytes(&t->arrays[MBL_LOSSES])};
    parts[PREDICTIONS] = (struct part){t->arrays[MBL_PREDICTIONS].data, mbk_bytes(&t->arrays[MBL_PREDICTIONS])};
}

/* SHA-256 over the state's text and the parts. */
static void digest(const char *state, const struct mbl_tensor *parts, char hex[MBL_SHA256_HEX + 1]) {
    unsigned char sum[MBL_SHA256];
    struct mbl_sha256 *h = mbl_sha256_begin();
    mbl_sha256_add(h, state, strlen(state));
    for (int i = 0; i < PARTS; i++) mbl_sha256_add(h, parts[i].data, (size_t)parts[i].shape[0]);
    mbl_sha256_end(h, sum);
    mbl_sha256_text(sum, hex);
}

static struct mbl_json *state_table(const struct mbl_trainer *t, const char *log, struct mbl_arena *a) {
    struct mbl_json *s = mbl_json_table(a);
    mbl_json_set(a, s, "version", mbl_json_int(a, CHECKPOINT_VERSION));
    mbl_json_set(a, s, "epoch", mbl_json_int(a, t->epoch));
    mbl_json_set(a, s, "position", mbl_json_int(a, t->position));
    mbl_json_set(a, s, "step", mbl_json_int(a, t->step));
    mbl_json_set(a, s, "best", mbl_json_float(a, t->best));
    mbl_json_set(a, s, "best_epoch", mbl_json_int(a, t->best_epoch));
    mbl_json_set(a, s, "waited", mbl_json_int(a, t->waited));
    mbl_json_set(a, s, "has_best", mbl_json_bool(a, t->has_best));
    mbl_json_set(a, s, "log", mbl_json_string(a, log));
    return s;
}

int mbl_checkpoint_write(struct mbl_trainer *t, const char *folder, const char *log, struct mbl_error *e) {
    struct mbl_arena arena = {0};
    struct mbl_buf state = {0};
    struct mbl_tensor tensors[PARTS] = {{0}};
    struct part parts[PARTS];
    char hex[MBL_SHA256_HEX + 1];
    int status = -1;
    if (mbl_group_gather(t, e)) return -1;
    list_parts(t, parts);
    for (int i = 0; i < PARTS; i++) {
        void *data;
        if (mbl_try_alloc(&data, parts[i].bytes, 1, "a checkpoint", e)) goto done;
        tensors[i] =
            (struct mbl_tensor){.name = part_names[i], .type = MBL_U8, .rank = 1, .shape = {(int64_t)parts[i].bytes}, .data = data};
        if (mbk_read(t->model->k, data, parts[i].device, parts[i].bytes)) {
            mbl_kernel_failed(t->model->k, "a checkpoint", e);
            goto done;
        }
    }
    mbl_json_write(state_table(t, log, &arena), MBL_JSON_COMPACT, &state);
    digest(mbl_buf_str(&state), tensors, hex);
    struct mbl_json *metadata = mbl_json_table(&arena);
    mbl_json_set(&arena, metadata, "state", mbl_json_string(&arena, mbl_buf_str(&state)));
    mbl_json_set(&arena, metadata, "sha256", mbl_json_string(&arena, hex));
    status = mbl_safetensors_save(mbl_path_join(&arena, folder, "checkpoint.safetensors"), tensors, PARTS, metadata, e);
done:
    for (int i = 0; i < PARTS; i++) free((void *)tensors[i].data);
    mbl_buf_free(&state);
    mbl_arena_free(&arena);
    return status;
}

static int check_parts(const struct mbl_safetensors *file, const struct part *parts, struct mbl_tensor *out, struct mbl_error *why) {
    for (int i = 0; i < PARTS; i++) {
        const struct mbl_tensor *t = mbl_safetensors_find(file, part_names[i]);
        if (!t || t->type != MBL_U8 || t->rank != 1 || t->shape[0] != (int64_t)parts[i].bytes)
            return mbl_error_set(why, "%s is not what this model needs", part_names[i]);
        out[i] = *t;
    }
    return 0;
}

int mbl_checkpoint_read(struct mbl_trainer *t, const char *folder, struct mbl_buf *log, struct mbl_error *why) {
    struct mbl_arena arena = {0};
    struct mbl_safetensors file = {0};
    struct mbl_tensor tensors[PARTS];
    struct mbl_json *s;
    struct part parts[PARTS];
    char hex[MBL_SHA256_HEX + 1];
    int status = 1;
    const char *path = mbl_path_join(&arena, folder, "checkpoint.safetensors");
    *why = (struct mbl_error){""};
    list_parts(t, parts);
    if (access(path, F_OK) || mbl_safetensors_open(path, &file, why) || check_parts(&file, parts, tensors, why)) goto done;
    const char *state = mbl_json_get_string(file.metadata, "state"), *sum = mbl_json_get_string(file.metadata, "sha256");
    if (state) digest(state, tensors, hex);
    if (!state || !sum || strcmp(hex, sum)) {
        mbl_error_set(why, "its digest doesn't match its content");
        goto done;
    }
    if (mbl_json_parse(state, strlen(state), "state", &arena, &s, why)) goto done;
    if (mbl_json_get_int(s, "version", 0) != CHECKPOINT_VERSION) {
        mbl_error_set(why, "another version wrote it");
        goto done;
    }
    for (int i = 0; i < PARTS; i++)
        if (mbk_write(t->model->k, parts[i].device, tensors[i].data, parts[i].bytes)) {
            status = mbl_kernel_failed(t->model->k, "a checkpoint", why);
            goto done;
        }
    if (mbl_model_refresh(t->model, why) || mbl_group_spread(t, why)) {
        status = -1;
        goto done;
    }
    t->epoch = mbl_json_get_int(s, "epoch", 0);
    t->position = mbl_json_get_int(s, "position", 0);
    t->step = mbl_json_get_int(s, "step", 0);
    t->best = mbl_json_get_float(s, "best", 0);
    t->best_epoch = mbl_json_get_int(s, "best_epoch", 0);
    t->waited = mbl_json_get_int(s, "waited", 0);
    t->has_best = mbl_json_get_bool(s, "has_best", false);
    const char *text = mbl_json_get_string(s, "log");
    mbl_buf_adds(log, text ? text : "");
    status = 0;
done:
    mbl_safetensors_close(&file);
    mbl_arena_free(&arena);
    return status;
}
