/* table.h: rows in memory, each column in the smallest form that holds it. Readers fill it; cleaning, expectations, splitting and writing
 * look at it and move nothing: which rows are kept, and where, is said by arrays of row numbers.
 */
#ifndef DATASET_TABLE_H
#define DATASET_TABLE_H

#include "lib/dataset.h"

/* Distinct strings in the order in which they came, each with a code. All zero is an empty one. */
struct dictionary {
    struct mbl_arena arena;
    const char **names;
    size_t count, cap, *slots, slot_count;
};
size_t dictionary_add(struct dictionary *d, const char *s, size_t n);
size_t dictionary_find(const struct dictionary *d, const char *s, size_t n); /* SIZE_MAX: it isn't there */
void dictionary_free(struct dictionary *d);

struct column {
    const char *name;
    enum mbl_column_kind kind;   /* MBL_NUMERIC, MBL_CATEGORY, MBL_TEXT, MBL_WORDS */
    bool is_label, is_group;     /* a group column is for splitting and no feature */
    size_t width;                /* MBL_NUMERIC: values a row; otherwise 0 */
    float *numbers;              /* MBL_NUMERIC: [rows, width], NaN missing; or, where the source has bytes, */
    const uint8_t *bytes;        /* [rows, width], not owned */
    int32_t *codes;              /* MBL_CATEGORY: [rows], -1 missing; */
    struct dictionary dictionary; /* in order after table_settle_categories or table_settle_tags */
    struct mbl_buf text;         /* MBL_TEXT; MBL_WORDS: each word, or tag of the label, ends with a NUL */
    int64_t *offsets;            /* [rows + 1] of bytes */
    int64_t *starts;             /* MBL_WORDS: [rows + 1] of words */
    bool *missing;               /* MBL_TEXT, MBL_WORDS: [rows], or NULL if none is */
    size_t number_cap, code_cap, offset_cap, start_cap, missing_cap;
    float fill;                  /* what stands for missing numbers or the code of missing categories, if filled */
    bool filled;
};

struct table {
    struct mbl_arena arena;
    struct column *columns;
    size_t column_count;
    size_t rows, line_cap;
    int64_t *lines;              /* [rows]: in the file that the row came from */
    const char **files;          /* in order */
    size_t *file_starts;         /* the first row of each */
    size_t file_count;
    int shape_rank;              /* images: known from the source (IDX, NPY) or from the rule */
    int64_t shape[3];
    struct mbl_buf data[2];      /* arrays as they lie in files: what bytes columns point into */
};

/* Whether its rows are bytes of `text`. A label that is words has a tag for each; table_settle_tags gives them codes. */
static inline bool column_is_text(const struct column *c) {
    return c->kind == MBL_TEXT || c->kind == MBL_WORDS;
}

void table_free(struct table *t);
struct column *table_find(const struct table *t, const char *name); /* NULL if absent */
struct column *table_label(const struct table *t);                  /* NULL without one */
struct column *table_words(const struct table *t);                  /* the column of words that is no label; NULL without one */
const char *table_file(const struct table *t, size_t row);          /* the file that a row came from */
bool table_is_missing(const struct column *c, size_t row);
float table_number(const struct column *c, size_t row, size_t k);   /* MBL_NUMERIC */
void table_value(const struct column *c, size_t row, char *out, size_t size); /* for messages, cut with "…" */

/* Categories that the kept rows have, in order: of numbers if all are, else of bytes. The codes follow. Once, after cleaning. */
void table_settle_categories(struct column *c, size_t rows, const size_t *kept, size_t kept_count);
/* The same for a label of tags: codes [words], -1 of tags that only dropped rows have. `fixed` (count 0: none) are all that there are, in
 * their order. */
void table_settle_tags(struct column *c, size_t rows, const size_t *kept, size_t kept_count, const char *const *fixed, size_t fixed_count);

/* A number as rule files and data have it: decimal, with sign, point and exponent; spaces around it are fine. Not "nan", "inf" or hex. */
bool table_parse_number(const char *s, size_t n, double *out);

#endif
