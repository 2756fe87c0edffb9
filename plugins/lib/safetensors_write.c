/* safetensors_write.c: making safetensors files, whole or by streaming; see safetensors.h. Same tensors, same bytes. */
#include "safetensors.h"

#include <stdlib.h>
#include <string.h>

struct slot {
    const struct mbl_tensor *tensor; /* during create */
    char *name;
    uint64_t begin, bytes, filled;   /* begin: in the file */
};

struct mbl_safetensors_writer {
    struct mbl_output out;
    struct slot *slots;              /* as given to create */
    size_t count;
};

static int by_width(const void *a, const void *b) {
    const struct mbl_tensor *s = (*(struct slot *const *)a)->tensor, *t = (*(struct slot *const *)b)->tensor;
    size_t x = mbl_dtype_width(s->type), y = mbl_dtype_width(t->type);
    if (x != y) return x > y ? -1 : 1;
    return strcmp(s->name, t->name);
}

static int measure(struct slot *s, struct mbl_error *e) {
    const struct mbl_tensor *t = s->tensor;
    s->bytes = mbl_dtype_width(t->type);
    for (int i = 0; i < t->rank; i++)
        if (t->shape[i] < 0 || __builtin_mul_overflow(s->bytes, (uint64_t)t->shape[i], &s->bytes) || s->bytes > INT64_MAX)
            return mbl_error_set(e, "tensor %s: its shape overflows", t->name);
    return 0;
}

static struct mbl_json *entry_of(struct mbl_arena *a, const struct slot *s, uint64_t offset) {
    struct mbl_json *entry = mbl_json_table(a), *shape = mbl_json_list(a), *offsets = mbl_json_list(a);
    for (int i = 0; i < s->tensor->rank; i++) mbl_json_push(a, shape, mbl_json_int(a, s->tensor->shape[i]));
    mbl_json_push(a, offsets, mbl_json_int(a, (int64_t)offset));
    mbl_json_push(a, offsets, mbl_json_int(a, (int64_t)(offset + s->bytes)));
    mbl_json_set(a, entry, "dtype", mbl_json_string(a, mbl_dtype_name(s->tensor->type)));
    mbl_json_set(a, entry, "shape", shape);
    mbl_json_set(a, entry, "data_offsets", offsets);
    return entry;
}

/* Gives each tensor its place and writes the header. */
static int write_header(struct mbl_safetensors_writer *w, const struct mbl_json *metadata, struct mbl_error *e) {
    struct mbl_arena arena = {0};
    struct mbl_buf text = {0};
    struct slot **order = mbl_alloc(w->count * sizeof *order);
    struct mbl_json *header = mbl_json_table(&arena);
    uint64_t offset = 0;
    int failed = 0;
    for (size_t i = 0; i < w->count; i++) order[i] = &w->slots[i];
    if (w->count) qsort(order, w->count, sizeof *order, by_width);
    if (metadata && metadata->count) mbl_json_set(&arena, header, "__metadata__", (struct mbl_json *)(uintptr_t)metadata);
    for (size_t i = 0; i < w->count && !failed; i++) {
        if (mbl_json_get(header, order[i]->name))
            failed = mbl_error_set(e, "cannot write %s: two tensors are called %s", w->out.path, order[i]->name);
        else mbl_json_set(&arena, header, order[i]->name, entry_of(&arena, order[i], offset));
        order[i]->begin = offset;
        offset += order[i]->bytes;
    }
    if (!failed) {
        unsigned char length[8];
        mbl_json_write(header, MBL_JSON_COMPACT, &text);
        while (text.len % 8) mbl_buf_addc(&text, ' ');
        for (int i = 0; i < 8; i++) length[i] = (unsigned char)((uint64_t)text.len >> 8 * i);
        for (size_t i = 0; i < w->count; i++) w->slots[i].begin += 8 + text.len;
        failed = mbl_output_append(&w->out, length, sizeof length, e) || mbl_output_append(&w->out, text.data, text.len, e);
    }
    free(order);
    mbl_buf_free(&text);
    mbl_arena_free(&arena);
    return failed ? -1 : 0;
}

int mbl_safetensors_create(const char *path, const struct mbl_tensor *tensors, size_t count, const struct mbl_json *metadata,
                           struct mbl_safetensors_writer **out, struct mbl_error *e) {
    struct mbl_safetensors_writer *w = mbl_alloc(sizeof *w);
    int failed = 0;
    w->out.fd = -1;
    w->slots = mbl_alloc(count * sizeof *w->slots);
    w->count = count;
    for (size_t i = 0; i < count && !failed; i++) {
        w->slots[i].tensor = &tensors[i];
        w->slots[i].name = mbl_printf("%s", tensors[i].name);
        if (measure(&w->slots[i], e)) failed = mbl_error_wrap(e, "cannot write %s", path);
    }
    if (failed || mbl_output_create(&w->out, path, e) || write_header(w, metadata, e)) {
        mbl_safetensors_abandon(w);
        *out = NULL;
        return -1;
    }
    *out = w;
    return 0;
}

int mbl_safetensors_append(struct mbl_safetensors_writer *w, size_t i, const void *data, size_t bytes, struct mbl_error *e) {
    struct slot *s = &w->slots[i];
    if (bytes > s->bytes - s->filled)
        return mbl_error_set(e, "%s: tensor %s takes %llu bytes; %zu more than that were given", w->out.path, s->name,
                             (unsigned long long)s->bytes, (size_t)(bytes - (s->bytes - s->filled)));
    if (mbl_output_pwrite(&w->out, data, bytes, s->begin + s->filled, e)) return -1;
    s->filled += bytes;
    return 0;
}

int mbl_safetensors_commit(struct mbl_safetensors_writer *w, struct mbl_error *e) {
    int failed = 0;
    for (size_t i = 0; i < w->count && !failed; i++)
        if (w->slots[i].filled != w->slots[i].bytes)
            failed = mbl_error_set(e, "%s: tensor %s takes %llu bytes; only %llu were given", w->out.path, w->slots[i].name,
                                   (unsigned long long)w->slots[i].bytes, (unsigned long long)w->slots[i].filled);
    if (!failed) failed = mbl_output_commit(&w->out, e);
    mbl_safetensors_abandon(w);
    return failed;
}

void mbl_safetensors_abandon(struct mbl_safetensors_writer *w) {
    if (!w) return;
    mbl_output_abandon(&w->out);
    for (size_t i = 0; i < w->count; i++) free(w->slots[i].name);
    free(w->slots);
    free(w);
}

int mbl_safetensors_save(const char *path, const struct mbl_tensor *tensors, size_t count, const struct mbl_json *metadata,
                         struct mbl_error *e) {
    struct mbl_safetensors_writer *w;
    if (mbl_safetensors_create(path, tensors, count, metadata, &w, e)) return -1;
    for (size_t i = 0; i < count; i++)
        if (mbl_safetensors_append(w, i, tensors[i].data, (size_t)w->slots[i].bytes, e)) {
            mbl_safetensors_abandon(w);
            return -1;
        }
    return mbl_safetensors_commit(w, e);
}
