/* hf_files.c: the weights of a Hugging Face folder, under whichever names and in whichever files they lie; see hf.h. */
#include "hf.h"
#include "transformer_quantized.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One file of weights, open. */
struct mbl_hf_file {
    const char *name;
    bool torch;
    struct mbl_safetensors safe;
    struct mbl_torch_file bin;
};

/* -- opening */

static void add_tensor(struct mbl_hf_weights *w, const struct mbl_tensor *t) {
    w->tensors = mbl_grow(w->tensors, &w->cap, w->count + 1, sizeof *w->tensors);
    w->tensors[w->count++] = *t;
}

/* `map` (optional): of this file, only what the index says lies in it. */
static int add_file(struct mbl_hf_weights *w, const char *folder, const char *name, const struct mbl_json *map, struct mbl_error *e) {
    w->files = mbl_grow(w->files, &w->file_cap, w->file_count + 1, sizeof *w->files);
    struct mbl_hf_file *f = &w->files[w->file_count++];
    size_t length = strlen(name);
    *f = (struct mbl_hf_file){.name = name, .torch = length > 4 && !strcmp(name + length - 4, ".bin")};
    const char *path = mbl_path_join(&w->arena, folder, name);
    if (f->torch ? mbl_torch_open(path, &f->bin, e) : mbl_safetensors_open(path, &f->safe, e)) return -1;
    size_t n = f->torch ? f->bin.count : f->safe.count;
    const struct mbl_tensor *all = f->torch ? f->bin.tensors : f->safe.tensors;
    for (size_t i = 0; i < n; i++) {
        const char *where = map ? mbl_json_get_string(map, all[i].name) : name;
        if (where && !strcmp(where, name)) add_tensor(w, &all[i]);
    }
    return 0;
}

static int add_shards(struct mbl_hf_weights *w, const char *folder, const char *index, struct mbl_error *e) {
    struct mbl_json *root;
    const char *path = mbl_path_join(&w->arena, folder, index);
    if (mbl_json_read(path, &w->arena, &root, e)) return -1;
    const struct mbl_json *map = mbl_json_get(root, "weight_map");
    if (!map || map->type != MBL_JSON_TABLE)
        return mbl_error_set(e, "%s: weight_map, a table of tensors and their files, is missing", path);
    for (size_t i = 0; i < map->count; i++) {
        const char *name = map->items[i]->type == MBL_JSON_STRING ? map->items[i]->string : NULL;
        if (!name || !*name || strchr(name, '/') || name[0] == '.')
            return mbl_error_set(e, "%s: weight_map.%.200s: the name of a file in the same folder expected%s%.200s", path, map->keys[i],
                                 name ? ", found " : "", name ? name : "");
        size_t f = 0;
        while (f < w->file_count && strcmp(w->files[f].name, name)) f++;
        if (f == w->file_count && add_file(w, folder, name, map, e)) return -1;
    }
    if (w->count == map->count) return 0;
    for (size_t i = 0; i < map->count; i++) {
        size_t t = 0;
        while (t < w->count && strcmp(w->tensors[t].name, map->keys[i])) t++;
        if (t == w->count)
            return mbl_error_set(e, "%s: tensor %.200s is not in %.200s", path, map->keys[i], map->items[i]->string);
    }
    return 0;
}

int mbl_hf_open(const char *folder, struct mbl_hf_weights *out, struct mbl_error *e) {
    static const char *const names[] = {"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
                                        "pytorch_model.bin.index.json"};
    *out = (struct mbl_hf_weights){0};
    for (int i = 0; i < 4; i++) {
        if (access(mbl_path_join(&out->arena, folder, names[i]), F_OK)) continue;
        int status = i % 2 ? add_shards(out, folder, names[i], e) : add_file(out, folder, names[i], NULL, e);
        if (status) mbl_hf_close(out);
        return status;
    }
    mbl_hf_close(out);
    return mbl_error_set(e, "there are no weights: %s, %s, %s or %s expected", names[0], names[1], names[2], names[3]);
}

void mbl_hf_close(struct mbl_hf_weights *w) {
    for (size_t i = 0; i < w->file_count; i++) {
        mbl_safetensors_close(&w->files[i].safe);
        mbl_torch_close(&w->files[i].bin);
    }
    free(w->files);
    free(w->tensors);
    mbl_arena_free(&w->arena);
    *w = (struct mbl_hf_weights){0};
}

/* -- names. Bodies are saved with or without a prefix, so names are compared without. */

static bool starts(const char *name, const char *with) {
    return !strncmp(name, with, strlen(with));
}

static bool ends(const char *name, const char *with) {
    size_t n = strlen(name), m = strlen(with);
    return n >= m && !strcmp(name + n - m, with);
}

static const char *without_prefix(const struct mbl_model *m, const char *name) {
    static const char *const prefixes[][2] = {{"bert", "bert."}, {"distilbert", "distilbert."}, {"roberta", "roberta."},
                                              {"gpt2", "transformer."}, {"llama", "model."}, {"mistral", "model."}, {"qwen2", "model."}};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (!strcmp(prefixes[i][0], m->architecture->kind) && starts(name, prefixes[i][1])) return name + strlen(prefixes[i][1]);
    return name;
}

/* A name in a file as one that a parameter may have. */
static const char *modern(const struct mbl_model *m, const char *name, struct mbl_arena *a) {
    name = without_prefix(m, name);
    if (ends(name, "LayerNorm.gamma")) return mbl_arena_printf(a, "%.*sweight", (int)strlen(name) - 5, name);
    if (ends(name, "LayerNorm.beta")) return mbl_arena_printf(a, "%.*sbias", (int)strlen(name) - 4, name);
    if (!strcmp(name, "cls.predictions.decoder.bias")) return "cls.predictions.bias"; /* one and the same there */
    if (!strcmp(name, "lm_head.decoder.bias")) return "lm_head.bias";
    return name;
}

static bool is_head(const char *bare) {
    static const char *const heads[] = {"cls.", "classifier.", "pooler.", "lm_head.", "pre_classifier.", "vocab_transform.",
                                        "vocab_layer_norm.", "vocab_projector."};
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
        if (starts(bare, heads[i])) return true;
    return false;
}

/* Another head's, or what a model computes for itself. */
static bool is_spare(const char *name) {
    static const char *const heads[] = {"score.", "qa_outputs.", "dropout."};
    static const char *const buffers[] = {"position_ids", "attn.bias", "attn.masked_bias", "rotary_emb.inv_freq"};
    if (is_head(name)) return true;
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
        if (starts(name, heads[i])) return true;
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        if (ends(name, buffers[i])) return true;
    return false;
}

/* The pooler of a model of embeddings is kept but not used, and some files lack it. */
static bool may_lack(const struct mbl_model *m, const char *bare, bool new_head) {
    return (new_head && is_head(bare)) || (m->problem == MBL_EMBEDDING && starts(bare, "pooler."));
}

/* -- reading */

static void describe_shape(const int64_t *shape, int rank, struct mbl_buf *out) {
    mbl_buf_addc(out, '[');
    for (int i = 0; i < rank; i++) mbl_buf_addf(out, "%s%lld", i ? ", " : "", (long long)shape[i]);
    mbl_buf_addc(out, ']');
}

static bool same_shape(const struct mbl_parameter *p, const struct mbl_tensor *t) {
    bool same = t->rank == p->rank;
    for (int i = 0; same && i < p->rank; i++) same = t->shape[i] == p->shape[i];
    return same;
}

static int check_type(const struct mbl_parameter *p, const struct mbl_tensor *t, struct mbl_error *e) {
    const enum mbl_dtype wanted = p->value.type == MBK_I8 ? MBL_I8 : MBL_U8;
    if (mbl_parameter_quantized(p))
        return t->type == wanted ? 0
                                 : mbl_error_set(e, "tensor %.200s is %s, but config.json makes it %s as %s", t->name, mbl_dtype_name(t->type),
                                                 mbk_type_name(p->value.type), mbl_dtype_name(wanted));
    if (t->type != MBL_F32 && t->type != MBL_F16 && t->type != MBL_BF16 && t->type != MBL_F64)
        return mbl_error_set(e, "tensor %.200s is %s; F32, F16, BF16 or F64 expected", t->name, mbl_dtype_name(t->type));
    return 0;
}

static int check_tensor(const struct mbl_parameter *p, const struct mbl_tensor *t, struct mbl_error *e) {
    if (check_type(p, t, e)) return -1;
    if (same_shape(p, t)) return 0;
    struct mbl_buf found = {0}, wanted = {0};
    describe_shape(t->shape, t->rank, &found);
    describe_shape(p->shape, p->rank, &wanted);
    mbl_error_set(e, "tensor %.200s is %s, but config.json makes it %s", t->name, mbl_buf_str(&found), mbl_buf_str(&wanted));
    mbl_buf_free(&found);
    mbl_buf_free(&wanted);
    return -1;
}

/* Bytes as they are. */
static int read_quantized(struct mbl_model *m, const struct mbl_parameter *p, const struct mbl_tensor *t, struct mbl_error *e) {
    if (mbl_quantized_check_bytes(p, t->data, e)) return -1;
    return mbk_write(m->k, p->value.data, t->data, mbk_bytes(&p->value)) ? mbl_kernel_failed(m->k, p->name, e) : 0;
}

static int read_tensor(struct mbl_model *m, const struct mbl_parameter *p, const struct mbl_tensor *t, struct mbl_error *e) {
    if (mbl_parameter_quantized(p)) return read_quantized(m, p, t, e);
    const bool scale = m->quantized && ends(p->name, ".weight_scale");
    void *block;
    int64_t count = mbk_count(&p->value);
    if (mbl_try_alloc(&block, (uint64_t)count, sizeof(float), p->name, e)) return -1;
    float *values = block;
    int status = mbl_tensor_floats(t, values, e);
    for (int64_t i = 0; !status && i < count; i++)
        if (!isfinite(values[i])) status = mbl_error_set(e, "tensor %.200s: element %lld is no finite number", t->name, (long long)i);
    for (int64_t i = 0; !status && scale && i < count; i++)
        if (!(values[i] > 0))
            status = mbl_error_set(e, "tensor %.200s: element %lld is %g; a scale above 0 expected", t->name, (long long)i, (double)values[i]);
    if (!status && mbk_write(m->k, p->value.data, values, mbk_bytes(&p->value))) status = mbl_kernel_failed(m->k, p->name, e);
    free(block);
    return status;
}

/* What stands for an embedding that a file keeps only as the output layer that it is tied to. */
static const char *tied_name(const struct mbl_model *m, const char *bare) {
    static const char *const decoders[][2] = {{"bert", "cls.predictions.decoder.weight"}, {"distilbert", "vocab_projector.weight"},
                                              {"roberta", "lm_head.decoder.weight"}};
    for (size_t i = 0; i < sizeof decoders / sizeof *decoders; i++)
        if (!strcmp(bare, "embeddings.word_embeddings.weight") && !strcmp(m->architecture->kind, decoders[i][0])) return decoders[i][1];
    if (!strcmp(bare, "wte.weight")) return "lm_head.weight";
    if (!strcmp(bare, "embed_tokens.weight") && !mbl_model_find(m, "lm_head.weight")) return "lm_head.weight";
    return NULL;
}

static const struct mbl_tensor *find(const struct mbl_tensor *tensors, const char *const *names, size_t count, const char *name) {
    for (size_t i = 0; name && i < count; i++)
        if (!strcmp(names[i], name)) return &tensors[i];
    return NULL;
}

/* Which tensor each parameter gets; NULL: it starts anew. */
static int match(struct mbl_model *m, const struct mbl_tensor *tensors, const char *const *names, size_t count, bool new_head,
                 const struct mbl_tensor **chosen, struct mbl_error *e) {
    for (size_t i = 0; i < m->parameter_count; i++) {
        struct mbl_parameter *p = &m->parameters[i];
        const char *bare = without_prefix(m, p->name);
        const struct mbl_tensor *t = find(tensors, names, count, bare);
        if (!t) t = find(tensors, names, count, tied_name(m, bare));
        bool lack = may_lack(m, bare, new_head);
        if (t && lack && !same_shape(p, t)) t = NULL;
        p->missing = !t;
        chosen[i] = t;
        if (t ? check_tensor(p, t, e) : lack ? 0 : mbl_error_set(e, "tensor %s is missing", p->name)) return -1;
    }
    for (size_t i = 0; i < count; i++) {
        bool wanted = is_spare(names[i]);
        for (size_t p = 0; !wanted && p < m->parameter_count; p++) wanted = !strcmp(without_prefix(m, m->parameters[p].name), names[i]);
        if (!wanted) return mbl_error_set(e, "tensor %.200s is none of the model's that config.json describes", tensors[i].name);
    }
    return 0;
}

int mbl_hf_read(struct mbl_model *m, const struct mbl_tensor *tensors, size_t count, bool new_head, struct mbl_error *e) {
    struct mbl_arena a = {0};
    const char **names = mbl_arena_alloc(&a, (count + 1) * sizeof *names);
    const struct mbl_tensor **chosen = mbl_arena_alloc(&a, (m->parameter_count + 1) * sizeof *chosen);
    for (size_t i = 0; i < count; i++) names[i] = modern(m, tensors[i].name, &a);
    int status = match(m, tensors, names, count, new_head, chosen, e);
    /* Only now, when the file has shown that it is as large as it says. */
    if (!status && !m->values) status = mbl_model_allocate(m, e);
    for (size_t i = 0; !status && i < m->parameter_count; i++)
        if (chosen[i]) status = read_tensor(m, &m->parameters[i], chosen[i], e);
    mbl_arena_free(&a);
    return status;
}
