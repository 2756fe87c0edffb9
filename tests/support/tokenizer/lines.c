/* lines.c: a tokenizer on the lines of a file, for tests and measures that hold it against the package `tokenizers` (compare.py).
 *
 *     lines encode TOKENIZER FILE OUT      writes of each line: how many tokens, their ids, their offsets; 32-bit integers
 *     lines words TOKENIZER FILE OUT LIMIT each line is words with a space between each two: how many tokens, ids, words that they are of
 *     lines pairs TOKENIZER FILE OUT LIMIT each line with the next: how many tokens, ids, types
 *     lines decode TOKENIZER FILE OUT      each line has ids; writes of each: how many bytes, the text
 *     lines save TOKENIZER FOLDER
 *     lines train MODEL SIZE FILE FOLDER
 *     lines time TOKENIZER FILE            prints the seconds of the fastest of five runs, offsets included
 */
#include "lib/files.h"
#include "lib/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct mbl_error e;

static void check(int failed) {
    if (!failed) return;
    fprintf(stderr, "lines: %s\n", e.text);
    exit(1);
}

static size_t split(const struct mbl_buf *text, struct mbl_text **out) {
    size_t count = 0, cap = 0;
    for (size_t at = 0; at < text->len;) {
        const char *end = memchr(text->data + at, '\n', text->len - at);
        size_t length = end ? (size_t)(end - text->data) - at : text->len - at;
        *out = mbl_grow(*out, &cap, count + 1, sizeof **out);
        (*out)[count++] = (struct mbl_text){text->data + at, length};
        at += length + 1;
    }
    return count;
}

static void encode(const struct mbl_tokenizer *t, const struct mbl_text *lines, size_t count, const char *path) {
    struct mbl_encode_options o = {.offsets = true};
    struct mbl_encoding x = {0};
    struct mbl_buf out = {0};
    check(mbl_tokenizer_encode(t, lines, NULL, count, &o, &x, &e));
    for (size_t i = 0; i < count; i++) {
        int32_t n = (int32_t)(x.starts[i + 1] - x.starts[i]);
        mbl_buf_add(&out, &n, sizeof n);
        mbl_buf_add(&out, x.ids + x.starts[i], (size_t)n * sizeof *x.ids);
        mbl_buf_add(&out, x.offsets + x.starts[i], (size_t)n * sizeof *x.offsets);
    }
    check(mbl_file_write(path, out.data, out.len, &e));
    mbl_buf_free(&out);
    mbl_encoding_free(&x);
}

static size_t limit;

static void write_beside(const struct mbl_encoding *x, size_t count, const char *path) {
    struct mbl_buf out = {0};
    for (size_t i = 0; i < count; i++) {
        int32_t n = (int32_t)(x->starts[i + 1] - x->starts[i]);
        mbl_buf_add(&out, &n, sizeof n);
        mbl_buf_add(&out, x->ids + x->starts[i], (size_t)n * sizeof *x->ids);
        for (size_t k = x->starts[i]; k < x->starts[i + 1]; k++) {
            int32_t beside = x->words ? x->words[k] : x->types[k];
            mbl_buf_add(&out, &beside, sizeof beside);
        }
    }
    check(mbl_file_write(path, out.data, out.len, &e));
    mbl_buf_free(&out);
}

static void encode_words(const struct mbl_tokenizer *t, const struct mbl_text *lines, size_t count, const char *path) {
    struct mbl_encode_options o = {.max_length = limit};
    struct mbl_encoding x = {0};
    struct mbl_text *words = NULL;
    int64_t *rows = mbl_alloc((count + 1) * sizeof *rows);
    size_t n = 0, cap = 0;
    for (size_t i = 0; i < count; i++) {
        const char *at = lines[i].data, *end = at + lines[i].length;
        for (bool more = true; more; n++) {
            const char *space = memchr(at, ' ', (size_t)(end - at)), *stop = space ? space : end;
            words = mbl_grow(words, &cap, n + 1, sizeof *words);
            words[n] = (struct mbl_text){at, (size_t)(stop - at)};
            more = space != NULL;
            at = stop + 1;
        }
        rows[i + 1] = (int64_t)n;
    }
    check(mbl_tokenizer_encode_words(t, words, rows, count, &o, &x, &e));
    write_beside(&x, count, path);
    mbl_encoding_free(&x);
    free(words);
    free(rows);
}

static void encode_pairs(const struct mbl_tokenizer *t, const struct mbl_text *lines, size_t count, const char *path) {
    struct mbl_encode_options o = {.max_length = limit};
    struct mbl_encoding x = {0};
    check(mbl_tokenizer_encode(t, lines, lines + 1, count - 1, &o, &x, &e));
    write_beside(&x, count - 1, path);
    mbl_encoding_free(&x);
}

static void decode(const struct mbl_tokenizer *t, const struct mbl_text *lines, size_t count, const char *path) {
    struct mbl_buf out = {0}, text = {0};
    int32_t *ids = NULL;
    size_t cap = 0;
    for (size_t i = 0; i < count; i++) {
        size_t n = 0;
        char *next;
        for (const char *s = lines[i].data; s < lines[i].data + lines[i].length; s = next) {
            ids = mbl_grow(ids, &cap, n + 1, sizeof *ids);
            ids[n++] = (int32_t)strtol(s, &next, 10);
            while (*next == ' ') next++;
        }
        text.len = 0;
        check(mbl_tokenizer_decode(t, ids, n, false, &text, &e));
        int32_t length = (int32_t)text.len;
        mbl_buf_add(&out, &length, sizeof length);
        mbl_buf_add(&out, mbl_buf_str(&text), text.len);
    }
    check(mbl_file_write(path, out.data, out.len, &e));
    mbl_buf_free(&out);
    mbl_buf_free(&text);
    free(ids);
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void measure(const struct mbl_tokenizer *t, const struct mbl_text *lines, size_t count) {
    struct mbl_encode_options o = {.offsets = true};
    double best = 1e9;
    for (int i = 0; i < 5; i++) {
        struct mbl_encoding x = {0};
        double from = seconds();
        check(mbl_tokenizer_encode(t, lines, NULL, count, &o, &x, &e));
        double took = seconds() - from;
        if (took < best) best = took;
        mbl_encoding_free(&x);
    }
    printf("%.6f\n", best);
}

int main(int argc, char **argv) {
    struct mbl_tokenizer *t = NULL;
    struct mbl_buf text = {0};
    struct mbl_text *lines = NULL;
    size_t count = 0;
    const char *what = argc > 3 ? argv[1] : "";
    bool train = !strcmp(what, "train") && argc == 6, save = !strcmp(what, "save");
    if (argc < 4) return fprintf(stderr, "usage: see the head of lines.c\n"), 2;
    if (!save) {
        check(mbl_file_read(argv[train ? 4 : 3], (size_t)1 << 30, &text, &e));
        count = split(&text, &lines);
    }
    if (train) {
        struct mbl_tokenizer_training o = {.model = argv[2], .vocabulary = (size_t)atol(argv[3]), .lowercase = true, .max_length = 128};
        struct mbl_text all = {text.data, text.len};
        check(mbl_tokenizer_train(&o, &all, 1, &t, &e));
        check(mbl_tokenizer_save(t, argv[5], &e));
    } else {
        check(mbl_tokenizer_open(argv[2], &t, &e));
        if (save) check(mbl_tokenizer_save(t, argv[3], &e));
        else if (!strcmp(what, "time")) measure(t, lines, count);
        else if (argc < 5) return fprintf(stderr, "usage: see the head of lines.c\n"), 2;
        else if (argc == 6) {
            limit = (size_t)atol(argv[5]);
            (strcmp(what, "words") ? encode_pairs : encode_words)(t, lines, count, argv[4]);
        } else (strcmp(what, "decode") ? encode : decode)(t, lines, count, argv[4]);
    }
    mbl_tokenizer_free(t);
    mbl_buf_free(&text);
    free(lines);
    return 0;
}
