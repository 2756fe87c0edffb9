/* write.c: a part of a dataset as a safetensors file; see write.h. Rows are gathered a block at a time. */
#include "write.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES ((size_t)1 << 20)

/* Of each word rather than of each row: TENSOR_TAGS, TENSOR_WORDS (their bytes), TENSOR_ENDS (where these end). */
enum tensor_kind { TENSOR_FEATURES, TENSOR_CATEGORY, TENSOR_LABEL, TENSOR_TEXT, TENSOR_OFFSETS, TENSOR_LINE, TENSOR_TAGS, TENSOR_WORDS,
                   TENSOR_ENDS, TENSOR_WORD_ROWS };

/* One tensor of the file and where its rows come from. */
struct source {
    enum tensor_kind kind;
    const struct column *column; /* of features: NULL */
};

struct writing {
    const struct table *t;
    const struct rows *rows;
    struct mbl_tensor *tensors;
    struct source *sources;
    size_t count, numbers;       /* numbers: numeric features a row */
    struct mbl_safetensors_writer *out;
    struct mbl_error *e;
};

static bool is_number(const struct column *c) {
    return c->kind == MBL_NUMERIC && !c->is_label && !c->is_group;
}

/* Whether all features fit into bytes, looking at all rows that are kept, so that the parts agree. */
static bool fit_bytes(const struct finished *f) {
    for (size_t i = 0; i < f->table->column_count; i++) {
        const struct column *c = &f->table->columns[i];
        if (!is_number(c) || c->bytes) continue;
        for (int p = 0; p < PART_COUNT; p++)
            for (size_t r = 0; r < f->parts[p].count; r++)
                for (size_t k = 0; k < c->width; k++) {
                    float v = table_number(c, f->parts[p].at[r], k);
                    if (!(v >= 0 && v <= 255 && v == floorf(v)) || (v == 0 && signbit(v))) return false;
                }
    }
    return true;
}

static struct mbl_tensor *add(struct writing *w, const char *name, enum mbl_dtype type, enum tensor_kind kind, const struct column *column,
                              int64_t rows) {
    struct mbl_tensor *t = &w->tensors[w->count];
    *t = (struct mbl_tensor){.name = name, .type = type, .rank = 1, .shape = {rows}};
    w->sources[w->count++] = (struct source){kind, column};
    return t;
}

static void declare(struct writing *w, const struct finished *f, struct mbl_arena *a) {
    const struct table *t = w->t;
    int64_t rows = (int64_t)w->rows->count;
    w->tensors = mbl_arena_alloc(a, (2 * t->column_count + 4) * sizeof *w->tensors);
    w->sources = mbl_arena_alloc(a, (2 * t->column_count + 4) * sizeof *w->sources);
    for (size_t i = 0; i < t->column_count; i++) {
        const struct column *c = &t->columns[i];
        if (is_number(c)) w->numbers += c->width;
        if (c->is_group) continue;
        if (c->kind == MBL_WORDS) {
            int64_t words = 0, bytes = 0;
            for (size_t r = 0; r < w->rows->count; r++) {
                size_t row = w->rows->at[r];
                words += c->starts[row + 1] - c->starts[row];
                bytes += c->offsets[row + 1] - c->offsets[row];
            }
            if (c->is_label) {
                add(w, "label", MBL_I32, TENSOR_TAGS, c, words);
                continue;
            }
            add(w, mbl_arena_printf(a, "words:%s", c->name), MBL_U8, TENSOR_WORDS, c, bytes - words);
            add(w, mbl_arena_printf(a, "words:%s:offsets", c->name), MBL_I64, TENSOR_ENDS, c, words + 1);
            add(w, mbl_arena_printf(a, "words:%s:rows", c->name), MBL_I64, TENSOR_WORD_ROWS, c, rows + 1);
        } else if (c->is_label) {
            add(w, "label", c->kind == MBL_CATEGORY ? MBL_I32 : MBL_F32, TENSOR_LABEL, c, rows);
        } else if (c->kind == MBL_CATEGORY) {
            add(w, mbl_arena_printf(a, "category:%s", c->name), MBL_I32, TENSOR_CATEGORY, c, rows);
        } else if (c->kind == MBL_TEXT) {
            int64_t bytes = 0;
            for (size_t r = 0; r < w->rows->count; r++) bytes += c->offsets[w->rows->at[r] + 1] - c->offsets[w->rows->at[r]];
            add(w, mbl_arena_printf(a, "text:%s", c->name), MBL_U8, TENSOR_TEXT, c, bytes);
            add(w, mbl_arena_printf(a, "text:%s:offsets", c->name), MBL_I64, TENSOR_OFFSETS, c, rows + 1);
        }
    }
    add(w, "line", MBL_I64, TENSOR_LINE, NULL, rows);
    if (!w->numbers) return;
    struct mbl_tensor *features = add(w, "features", fit_bytes(f) ? MBL_U8 : MBL_F32, TENSOR_FEATURES, NULL, rows);
    features->rank = t->shape_rank ? 4 : 2;
    features->shape[1] = t->shape_rank ? t->shape[0] : (int64_t)w->numbers;
    for (int i = 1; i < t->shape_rank; i++) features->shape[i + 1] = t->shape[i];
}

/* One row of features. */
static void gather(const struct writing *w, size_t row, enum mbl_dtype type, unsigned char *to) {
    for (size_t i = 0; i < w->t->column_count; i++) {
        const struct column *c = &w->t->columns[i];
        if (!is_number(c)) continue;
        for (size_t k = 0; k < c->width; k++) {
            float v = table_number(c, row, k);
            if (type == MBL_U8) *to++ = (unsigned char)v;
            else memcpy(to, &v, sizeof v), to += sizeof v;
        }
    }
}

static void put_row(const struct writing *w, const struct source *s, const struct mbl_tensor *t, size_t i, int64_t *offset,
                    unsigned char *to) {
    const struct column *c = s->column;
    size_t row = w->rows->at[i];
    float v;
    switch (s->kind) {
    case TENSOR_FEATURES: gather(w, row, t->type, to); break;
    case TENSOR_LINE: memcpy(to, &w->t->lines[row], 8); break;
    case TENSOR_OFFSETS:
    case TENSOR_WORD_ROWS:
        *offset += s->kind == TENSOR_OFFSETS ? c->offsets[row + 1] - c->offsets[row] : c->starts[row + 1] - c->starts[row];
        memcpy(to, offset, 8);
        break;
    default:
        if (c->kind == MBL_CATEGORY) memcpy(to, &c->codes[row], 4);
        else v = table_number(c, row, 0), memcpy(to, &v, 4);
    }
}

static int write_text(const struct writing *w, size_t at) {
    const struct column *c = w->sources[at].column;
    for (size_t i = 0; i < w->rows->count; i++) {
        int64_t begin = c->offsets[w->rows->at[i]], end = c->offsets[w->rows->at[i] + 1];
        if (end > begin && mbl_safetensors_append(w->out, at, c->text.data + begin, (size_t)(end - begin), w->e)) return -1;
    }
    return 0;
}

/* Of the words of all rows: their bytes, where they end, or their tags. */
static int write_words(const struct writing *w, size_t at) {
    const struct column *c = w->sources[at].column;
    enum tensor_kind kind = w->sources[at].kind;
    struct mbl_buf block = {0};
    int64_t end = 0;
    int failed = 0;
    if (kind == TENSOR_ENDS) mbl_buf_add(&block, &end, sizeof end);
    for (size_t i = 0; i < w->rows->count && !failed; i++) {
        size_t row = w->rows->at[i];
        const char *word = mbl_buf_str(&c->text) + c->offsets[row];
        for (int64_t k = c->starts[row]; k < c->starts[row + 1]; k++) {
            size_t n = strlen(word);
            end += (int64_t)n;
            if (kind == TENSOR_WORDS) mbl_buf_add(&block, word, n);
            else if (kind == TENSOR_ENDS) mbl_buf_add(&block, &end, sizeof end);
            else mbl_buf_add(&block, &c->codes[k], sizeof c->codes[k]);
            word += n + 1;
        }
        if (block.len < BLOCK_BYTES && i + 1 < w->rows->count) continue;
        if (block.len) failed = mbl_safetensors_append(w->out, at, block.data, block.len, w->e);
        block.len = 0;
    }
    mbl_buf_free(&block);
    return failed;
}

static int write_tensor(const struct writing *w, size_t at) {
    const struct mbl_tensor *t = &w->tensors[at];
    const struct source *s = &w->sources[at];
    if (s->kind == TENSOR_TEXT) return write_text(w, at);
    if (s->kind == TENSOR_TAGS || s->kind == TENSOR_WORDS || s->kind == TENSOR_ENDS) return write_words(w, at);
    size_t width = mbl_dtype_width(t->type) * (s->kind == TENSOR_FEATURES ? w->numbers : 1);
    size_t most = BLOCK_BYTES / width ? BLOCK_BYTES / width : 1, have = 0;
    int64_t offset = 0;
    unsigned char *block = mbl_alloc(most * width);
    int failed = 0;
    if (s->kind == TENSOR_OFFSETS || s->kind == TENSOR_WORD_ROWS) failed = mbl_safetensors_append(w->out, at, &offset, sizeof offset, w->e);
    for (size_t i = 0; i < w->rows->count && !failed; i++) {
        put_row(w, s, t, i, &offset, block + have * width);
        if (++have < most && i + 1 < w->rows->count) continue;
        failed = mbl_safetensors_append(w->out, at, block, have * width, w->e);
        have = 0;
    }
    free(block);
    return failed;
}

int write_part(const struct finished *f, int part, const struct mbl_json *schema, const char *path, struct mbl_error *e) {
    struct mbl_arena arena = {0};
    struct mbl_buf text = {0};
    struct writing w = {.t = f->table, .rows = &f->parts[part], .e = e};
    struct mbl_json *metadata = mbl_json_table(&arena);
    mbl_json_write(schema, MBL_JSON_COMPACT, &text);
    mbl_json_set(&arena, metadata, "schema", mbl_json_string(&arena, text.data));
    mbl_json_set(&arena, metadata, "part", mbl_json_string(&arena, part_names[part]));
    declare(&w, f, &arena);
    int failed = mbl_safetensors_create(path, w.tensors, w.count, metadata, &w.out, e);
    for (size_t i = 0; i < w.count && !failed; i++) failed = write_tensor(&w, i);
    if (!failed) failed = mbl_safetensors_commit(w.out, e);
    else mbl_safetensors_abandon(w.out);
    mbl_buf_free(&text);
    mbl_arena_free(&arena);
    return failed;
}
