/* model_files.c: a model's folder, config.json and model.safetensors, written and read; see model.h. */
#include "hf.h"
#include "model.h"
#include "texts.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Disk has [O, I, height, width], memory [O, height, width, I]: one loop moves elements of `width` bytes either way. */
static void rearrange(const struct mbl_parameter *p, const char *from, char *to, size_t width, bool to_disk) {
    int64_t O = p->shape[0], places = p->height * p->width, I = mbk_count(&p->value) / (O * places);
    for (int64_t o = 0; o < O; o++)
        for (int64_t i = 0; i < I; i++)
            for (int64_t s = 0; s < places; s++) {
                size_t disk = (size_t)((o * I + i) * places + s) * width, memory = (size_t)((o * places + s) * I + i) * width;
                if (to_disk) memcpy(to + disk, from + memory, width);
                else memcpy(to + memory, from + disk, width);
            }
}

/* -- reading */

static void describe_shape(int rank, const int64_t *shape, char out[160]) {
    size_t n = 0;
    n += (size_t)snprintf(out, 160, "[");
    for (int i = 0; i < rank && n < 130; i++) n += (size_t)snprintf(out + n, 160 - n, "%s%lld", i ? ", " : "", (long long)shape[i]);
    snprintf(out + n, 160 - n, "]");
}

static int check_tensor(const struct mbl_parameter *p, const struct mbl_tensor *t, struct mbl_error *e) {
    if (!t) return mbl_error_set(e, "tensor %s is missing", p->name);
    bool same = t->rank == p->rank && mbl_dtype_kernel(t->type) == p->value.type;
    for (int i = 0; same && i < p->rank; i++) same = t->shape[i] == p->shape[i];
    if (same) return 0;
    char found[160], expected[160];
    describe_shape(t->rank, t->shape, found);
    describe_shape(p->rank, p->shape, expected);
    return mbl_error_set(e, "tensor %s is %s %s, but config.json makes it %s %s", p->name, mbl_dtype_name(t->type), found,
                         mbk_type_name(p->value.type), expected);
}

static int check_numbers(const struct mbl_parameter *p, const char *data, struct mbl_error *e) {
    if (p->value.type != MBK_F32) return 0;
    size_t length = strlen(p->name);
    bool scale = length > 6 && !strcmp(p->name + length - 6, "_scale");
    for (int64_t i = 0; i < mbk_count(&p->value); i++) {
        float v;
        memcpy(&v, data + (size_t)i * sizeof v, sizeof v);
        if (!isfinite(v)) return mbl_error_set(e, "tensor %s: element %lld is no finite number", p->name, (long long)i);
        if (scale && !(v > 0))
            return mbl_error_set(e, "tensor %s: element %lld is %g; a scale above 0 expected", p->name, (long long)i, (double)v);
    }
    return 0;
}

static int read_tensor(struct mbl_model *m, const struct mbl_parameter *p, const struct mbl_tensor *t, struct mbl_error *e) {
    const char *data = t->data;
    if (check_numbers(p, data, e)) return -1;
    void *moved = NULL;
    if (p->height * p->width > 1) {
        if (mbl_try_alloc(&moved, (uint64_t)mbk_count(&p->value), mbl_dtype_width(t->type), p->name, e)) return -1;
        rearrange(p, data, moved, mbl_dtype_width(t->type), false);
        data = moved;
    }
    int status = mbk_write(m->k, p->value.data, data, mbk_bytes(&p->value));
    free(moved);
    return status ? mbl_kernel_failed(m->k, p->name, e) : 0;
}

int mbl_model_read_weights(struct mbl_model *m, const struct mbl_safetensors *file, struct mbl_error *e) {
    if (m->architecture->takes == MBL_TAKES_TOKENS) return mbl_hf_read(m, file->tensors, file->count, false, e);
    for (size_t i = 0; i < m->parameter_count; i++)
        if (check_tensor(&m->parameters[i], mbl_safetensors_find(file, m->parameters[i].name), e)) return -1;
    for (size_t i = 0; file->count != m->parameter_count && i < file->count; i++)
        if (!mbl_model_find(m, file->tensors[i].name))
            return mbl_error_set(e, "tensor %.200s is none of the model's that config.json describes", file->tensors[i].name);
    /* Only now, when the file has shown that it is as large as it says. */
    if (!m->values && mbl_model_allocate(m, e)) return -1;
    for (size_t i = 0; i < m->parameter_count; i++)
        if (read_tensor(m, &m->parameters[i], mbl_safetensors_find(file, m->parameters[i].name), e)) return -1;
    return 0;
}

static int load_weights(struct mbl_model *m, const char *folder, struct mbl_error *e) {
    struct mbl_arena arena = {0};
    struct mbl_safetensors file = {0};
    struct mbl_hf_weights weights = {0};
    int status = -1;
    if (m->architecture->takes == MBL_TAKES_TOKENS) {
        if (mbl_hf_open(folder, &weights, e) || mbl_hf_read(m, weights.tensors, weights.count, false, e)) mbl_error_wrap(e, "%s", folder);
        else status = mbl_model_initialize_missing(m, 1, e);
    } else if (!mbl_safetensors_open(mbl_path_join(&arena, folder, "model.safetensors"), &file, e)) {
        status = mbl_model_read_weights(m, &file, e) ? mbl_error_wrap(e, "%s/model.safetensors", folder) : 0;
    }
    mbl_hf_close(&weights);
    mbl_safetensors_close(&file);
    mbl_arena_free(&arena);
    return status;
}

int mbl_model_load(struct mbk *k, const char *folder, struct mbl_model **out, struct mbl_error *e) {
    struct mbl_arena arena = {0};
    struct mbl_json *config;
    struct mbl_model *m = NULL;
    int status = -1;
    *out = NULL;
    if (mbl_json_read(mbl_path_join(&arena, folder, "config.json"), &arena, &config, e)) goto done;
    if (mbl_model_create(k, config, &m, e)) {
        mbl_error_wrap(e, "%s/config.json", folder);
        goto done;
    }
    if (m->architecture->takes == MBL_TAKES_PAIRS && mbl_catalogue_open(m->schema.json, folder, &m->catalogue, e)) goto done;
    if (load_weights(m, folder, e)) goto done;
    if (m->architecture->takes == MBL_TAKES_TOKENS && mbl_texts_open(folder, &m->texts, e)) goto done;
    *out = m;
    m = NULL;
    status = 0;
done:
    mbl_model_free(m);
    mbl_arena_free(&arena);
    return status;
}

int mbl_model_load_on(const char *device, int threads, const char *folder, struct mbk **k, struct mbl_model **out, struct mbl_error *e) {
    const struct mbk_options options = {.threads = threads};
    *out = NULL;
    if (mbk_open(device, &options, k, e->text, sizeof e->text)) {
        *k = NULL;
        return mbl_error_wrap(e, "device %s", device);
    }
    int status = mbl_model_load(*k, folder, out, e);
    const bool fits = !status && (!(*out)->quantized || (*out)->architecture->takes == MBL_TAKES_TOKENS);
    if (!status && (fits || !strcmp(mbk_device(*k), "cpu"))) return 0;
    bool again = !status;
    mbl_model_free(*out);
    mbk_close(*k);
    *out = NULL;
    *k = NULL;
    return again ? mbl_model_load_on("cpu", threads, folder, k, out, e) : -1;
}

/* -- writing */

/* In place, to nearest even; they are finite. */
static void round_to_bf16(void *data, uint64_t count) {
    for (uint64_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, (char *)data + 4 * i, sizeof bits);
        uint16_t rounded = (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
        memcpy((char *)data + 2 * i, &rounded, sizeof rounded);
    }
}

static bool is_rounded(const struct mbl_model *m, const struct mbl_parameter *p) {
    return m->saved == MBK_BF16 && p->value.type == MBK_F32;
}

static int write_tensor(const struct mbl_model *m, const struct mbl_parameter *p, struct mbl_tensor *t, struct mbl_error *e) {
    const bool packed = mbk_block(p->value.type) > 1; /* several elements to some bytes, which are what the file has */
    *t = (struct mbl_tensor){.name = p->name, .type = packed ? MBL_U8 : mbl_dtype_from_kernel(p->value.type), .rank = p->rank};
    memcpy(t->shape, p->shape, sizeof p->shape);
    void *data, *moved = NULL;
    uint64_t count = packed ? mbk_bytes(&p->value) : (uint64_t)mbk_count(&p->value);
    if (mbl_try_alloc(&data, count, mbl_dtype_width(t->type), p->name, e)) return -1;
    t->data = data;
    if (mbk_read(m->k, data, p->value.data, mbk_bytes(&p->value))) return mbl_kernel_failed(m->k, p->name, e);
    if (is_rounded(m, p)) {
        round_to_bf16(data, count);
        t->type = MBL_BF16;
    }
    if (p->height * p->width == 1) return 0;
    if (mbl_try_alloc(&moved, count, mbl_dtype_width(t->type), p->name, e)) return -1;
    rearrange(p, data, moved, mbl_dtype_width(t->type), true);
    free(data);
    t->data = moved;
    return 0;
}

/* The config, with what transformers is to load the weights as: which it may have from the folder that the model came from. */
static struct mbl_json *saved_config(const struct mbl_model *m, struct mbl_arena *a) {
    static const char *const keys[] = {"torch_dtype", "dtype"}; /* up to transformers 4, and from 5 on, which knows the old one too */
    struct mbl_json *config = mbl_json_table(a);
    bool found = false;
    for (size_t i = 0; i < m->config->count; i++) mbl_json_set(a, config, m->config->keys[i], m->config->items[i]);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (!mbl_json_get(config, keys[i])) continue;
        mbl_json_set(a, config, keys[i], mbl_json_string(a, m->saved == MBK_BF16 ? "bfloat16" : "float32"));
        found = true;
    }
    if (m->saved == MBK_BF16 && !found) mbl_json_set(a, config, keys[0], mbl_json_string(a, "bfloat16"));
    return config;
}

int mbl_model_save(const struct mbl_model *m, const char *folder, struct mbl_error *e) {
    struct mbl_arena arena = {0};
    struct mbl_tensor *tensors = mbl_alloc((m->parameter_count + 1) * sizeof *tensors);
    int status = -1;
    for (size_t i = 0; i < m->parameter_count; i++)
        if (write_tensor(m, &m->parameters[i], &tensors[i], e)) goto done;
    struct mbl_json *metadata = mbl_json_table(&arena);
    mbl_json_set(&arena, metadata, "format", mbl_json_string(&arena, "pt")); /* as transformers wants it */
    if (mbl_folder_make(folder, e) ||
        mbl_safetensors_save(mbl_path_join(&arena, folder, "model.safetensors"), tensors, m->parameter_count, metadata, e) ||
        mbl_json_save(mbl_path_join(&arena, folder, "config.json"), saved_config(m, &arena), e) || (m->texts && mbl_texts_save(m->texts, folder, e)) ||
        (m->catalogue && mbl_catalogue_save(m->catalogue, folder, e)))
        goto done;
    status = 0;
done:
    for (size_t i = 0; i < m->parameter_count; i++) free((void *)tensors[i].data);
    free(tensors);
    mbl_arena_free(&arena);
    return status;
}

int mbl_model_size(const char *folder, int64_t *bytes, struct mbl_error *e) {
    struct mbl_arena arena = {0};
    DIR *d = opendir(folder);
    if (!d) return mbl_error_errno(e, "%s", folder);
    int status = 0;
    *bytes = 0;
    for (struct dirent *entry; !status && (entry = readdir(d));) {
        struct stat st;
        if (entry->d_name[0] == '.') continue;
        const char *path = mbl_path_join(&arena, folder, entry->d_name);
        if (stat(path, &st)) status = mbl_error_errno(e, "%s", path);
        else if (S_ISREG(st.st_mode)) *bytes += st.st_size;
    }
    closedir(d);
    mbl_arena_free(&arena);
    return status;
}
