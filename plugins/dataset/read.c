/* read.c: which format a source has, and what the rule wants of its columns; see read.h. */
#include "read.h"

#include <stdlib.h>
#include <string.h>

#define CLASSES_MOST 100  /* more different integers than this are a target, not classes, unless the rule says so */
#define CLASS_ROWS_LEAST 5

static int read_csv(struct reading *r, struct table *out, struct mbl_error *e) {
    return read_records(r, records_open_csv, out, e);
}

static int read_jsonl(struct reading *r, struct table *out, struct mbl_error *e) {
    return read_records(r, records_open_jsonl, out, e);
}

static int read_text(struct reading *r, struct table *out, struct mbl_error *e) {
    return read_records(r, records_open_text, out, e);
}

static bool begins_idx(const unsigned char *b, size_t n) {
    return n >= 4 && b[0] == 0 && b[1] == 0 && b[2] >= 8 && b[2] <= 0x0e && b[3] >= 1 && b[3] <= ARRAY_RANK;
}

static bool begins_npy(const unsigned char *b, size_t n) {
    return n >= 6 && !memcmp(b, "\x93NUMPY", 6);
}

static bool begins_jsonl(const unsigned char *b, size_t n) {
    size_t i = n >= 3 && !memcmp(b, "\xef\xbb\xbf", 3) ? 3 : 0;
    while (i < n && (b[i] == ' ' || b[i] == '\t' || b[i] == '\r' || b[i] == '\n')) i++;
    return i < n && b[i] == '{';
}

static bool begins_csv(const unsigned char *b, size_t n) {
    (void)b;
    (void)n;
    return true;
}

static int read_conll(struct reading *r, struct table *out, struct mbl_error *e) {
    return read_records(r, records_open_conll, out, e);
}

static int read_conllu(struct reading *r, struct table *out, struct mbl_error *e) {
    return read_records(r, records_open_conllu, out, e);
}

typedef int open_records(struct mbl_stream *, const struct options *, struct records **, struct mbl_error *);

static const struct format {
    const char *name;
    bool (*begins)(const unsigned char *, size_t); /* whether a file may be of this format; NULL: only if the rule says so */
    int (*read)(struct reading *, struct table *, struct mbl_error *);
    open_records *open;                            /* NULL: no records */
} formats[] = {{"idx", begins_idx, read_idx, NULL},
               {"npy", begins_npy, read_npy, NULL},
               {"jsonl", begins_jsonl, read_jsonl, records_open_jsonl},
               {"conll", NULL, read_conll, records_open_conll},
               {"conllu", NULL, read_conllu, records_open_conllu},
               {"csv", begins_csv, read_csv, records_open_csv},
               {"text", NULL, read_text, records_open_text}};
#define FORMAT_COUNT (sizeof formats / sizeof *formats)

/* The format that the rule names, or by the beginning of a file; NULL on an error. */
static const struct format *find_format(const char *path, const struct options *o, struct mbl_error *e) {
    unsigned char begin[4096];
    size_t have = 0, got = 1, i = 0;
    struct mbl_stream *stream;
    bool guess = !strcmp(o->format, "auto");
    if (guess) {
        if (mbl_stream_open(path, &stream, e)) return NULL;
        while (have < sizeof begin && got) {
            if (mbl_stream_read(stream, begin + have, sizeof begin - have, &got, e)) {
                mbl_stream_close(stream);
                return NULL;
            }
            have += got;
        }
        mbl_stream_close(stream);
        if (!have) {
            mbl_error_set(e, "%s is empty", path);
            return NULL;
        }
    }
    for (; i < FORMAT_COUNT - 1; i++) {
        const struct format *f = &formats[i];
        if (guess ? f->begins && f->begins(begin, have) : !strcmp(f->name, o->format)) break;
    }
    return &formats[i];
}

int read_table(struct reading *r, struct table *out, struct mbl_error *e) {
    *out = (struct table){0};
    const struct format *f = find_format(r->paths[0], r->options, e);
    if (!f) return -1;
    if (f->read(r, out, e)) {
        table_free(out);
        return -1;
    }
    return 0;
}

int read_open(const char *path, const struct options *o, struct records **out, struct mbl_error *e) {
    struct mbl_stream *stream;
    *out = NULL;
    const struct format *f = find_format(path, o, e);
    if (!f) return -1;
    if (!f->open) return mbl_error_set(e, "%s: %s has no records", path, f->name);
    return mbl_stream_open(path, &stream, e) ? -1 : f->open(stream, o, out, e);
}

bool read_are_classes(const struct options *o, bool numbers, bool integers, size_t distinct, size_t rows) {
    if (strcmp(o->task, "auto")) return !strcmp(o->task, "classification");
    return !numbers || (integers && distinct <= CLASSES_MOST && distinct * CLASS_ROWS_LEAST <= rows);
}

/* -- uses of columns */

static size_t index_of(const char *const *names, size_t count, const char *name) {
    size_t i = 0;
    while (i < count && strcmp(names[i], name)) i++;
    return i;
}

static int no_column(const char *role, const char *name, const char *const *names, size_t count, const char *source, struct mbl_error *e) {
    struct mbl_buf list = {0};
    for (size_t i = 0; i < count && i < 20; i++) mbl_buf_addf(&list, "%s%.60s", i ? ", " : "", names[i]);
    if (count > 20) mbl_buf_adds(&list, ", \xe2\x80\xa6");
    mbl_error_set(e, "%s: %s: there is no column \"%.100s\"; there %s %s", source, role, name, count == 1 ? "is" : "are",
                  count ? mbl_buf_str(&list) : "none");
    mbl_buf_free(&list);
    return -1;
}

static int check_list(const char *role, const struct names *list, const char *const *names, size_t count, const char *source,
                      struct mbl_error *e) {
    for (size_t i = 0; i < list->count; i++)
        if (index_of(names, count, list->items[i]) == count) return no_column(role, list->items[i], names, count, source, e);
    return 0;
}

int read_uses(const struct options *o, const char *const *names, size_t count, const char *source, enum column_use *out,
              struct mbl_error *e) {
    if (check_list("features", &o->features, names, count, source, e) || check_list("ignore", &o->ignore, names, count, source, e) ||
        check_list("text", &o->text, names, count, source, e) ||
        (o->words && index_of(names, count, o->words) == count && no_column("words", o->words, names, count, source, e)) ||
        check_list("category", &o->category, names, count, source, e))
        return -1;
    for (size_t i = 0; i < count; i++) {
        bool wanted = o->features.count ? names_have(&o->features, names[i]) : !names_have(&o->ignore, names[i]);
        out[i] = wanted ? COLUMN_FEATURE : COLUMN_UNUSED;
    }
    if (o->group) {
        size_t at = index_of(names, count, o->group);
        if (at == count) return no_column("split.group", o->group, names, count, source, e);
        out[at] = COLUMN_GROUP;
    }
    size_t label = count;
    if (o->label) {
        label = index_of(names, count, o->label);
        if (label == count) return no_column("label", o->label, names, count, source, e);
    } else if (o->label_index) {
        int64_t at = o->label_index > 0 ? o->label_index - 1 : (int64_t)count + o->label_index;
        if (at < 0 || (uint64_t)at >= count)
            return mbl_error_set(e, "%s: label: there is no column %lld; there are %zu", source, (long long)o->label_index, count);
        label = (size_t)at;
    }
    if (label == count) return 0;
    if (out[label] == COLUMN_GROUP) return mbl_error_set(e, "%s: column %.100s cannot be both label and split.group", source, names[label]);
    if (o->features.count && names_have(&o->features, names[label]))
        return mbl_error_set(e, "%s: column %.100s is the label and cannot be a feature", source, names[label]);
    out[label] = COLUMN_LABEL;
    return 0;
}
