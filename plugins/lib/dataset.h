/* dataset.h: datasets, as the step `dataset` leaves them and other steps read them.
 *
 * A dataset is build/NAME/schema.json and one safetensors file a part: train, val, test, or `all` where the rule has no split. A part
 * stands for itself: its metadata holds the schema ("schema", JSON) and its name ("part"). The tensors are:
 *     features      F32 or U8 [rows, N], or [rows, H, W, C] where the schema has a shape: the numeric columns in their order
 *     category:NAME I32 [rows]: index into the column's categories, -1 missing
 *     label         I32 [rows] class index, or F32 [rows] target; where each word has a tag, I32 [words]
 *     text:NAME     U8 [bytes], text:NAME:offsets I64 [rows + 1]: row i is bytes offsets[i] .. offsets[i + 1] - 1, UTF-8
 *     words:NAME    U8 [bytes], words:NAME:offsets I64 [words + 1], words:NAME:rows I64 [rows + 1]: row i has the words rows[i] ..
 *                   rows[i + 1] - 1, word w is bytes offsets[w] .. offsets[w + 1] - 1, UTF-8. At most one column is such
 *     line          I64 [rows]: line of the source, 1-based (rows of binary formats: row number, 1-based)
 * Values are raw. The scaling that was fitted on the training part is in the schema, so that a model can keep it and take raw inputs.
 */
#ifndef MBL_DATASET_H
#define MBL_DATASET_H

#include "safetensors.h"

#define MBL_SCHEMA_VERSION 1

enum mbl_task { MBL_NO_TASK, MBL_CLASSIFICATION, MBL_REGRESSION, MBL_TAGGING, MBL_INTERACTIONS }; /* MBL_TAGGING: a class for each word;
                                                                                                   the last: interactions.h */
enum mbl_column_kind { MBL_NUMERIC = 1, MBL_CATEGORY, MBL_TEXT, MBL_WORDS, MBL_LABEL };

struct mbl_column {
    const char *name;
    enum mbl_column_kind kind;
    const char *const *categories;  /* MBL_CATEGORY: sorted */
    size_t category_count;
    size_t first, width;            /* where it stands in the feature matrix. Category: one column each (one-hot). Numeric: one, or more
                                       where the source has arrays (IDX, NPY). Text, words, label: width 0 */
};

struct mbl_schema {
    struct mbl_json *json;          /* the whole of it: what a model keeps to read it back with mbl_schema_parse */
    enum mbl_task task;
    const char *label;              /* the label column's name, NULL without one */
    const struct mbl_column *columns; /* in the order of the source, label included */
    size_t column_count;
    size_t features;                /* columns of the feature matrix, one-hot columns counted; H·W·C of images */
    const char *const *feature_names; /* [features]: "age", "colour=red", "pixel[3,4,0]" */
    int shape_rank;                 /* 3 for images (H, W, C), 0 otherwise */
    int64_t shape[3];
    const char *const *classes;     /* MBL_CLASSIFICATION, MBL_TAGGING: names by class index: numeric order if all are numbers, else by
                                       bytes; tags that the source has as numbers, in the order in which the rule names them */
    size_t class_count;
    const char *scheme;             /* MBL_TAGGING: how tags mark entities, a name of tagging.h's; NULL: the schema doesn't say */
    const char *scaling;            /* "none", "standard", "minmax" */
    const float *offset, *factor;   /* [features]: scaled = (raw − offset) · factor. None: 0 and 1. One-hot columns: 0 and 1 */
    double target_mean, target_deviation; /* MBL_REGRESSION, and ratings: of the training part; otherwise 0 and 1 */
};

/* Reads a schema from JSON; the strings and arrays lie in `arena`, as must `json`. */
MBL_EXPORT int mbl_schema_parse(struct mbl_json *json, struct mbl_arena *arena, struct mbl_schema *out, struct mbl_error *e);
MBL_EXPORT int mbl_schema_read(const char *path, struct mbl_arena *arena, struct mbl_schema *out, struct mbl_error *e); /* schema.json */

/* Whether a model that was made with `a` can take rows of `b`: same features and shape, and, unless just the rows are of interest, classes
 * and task. The error says what differs first. */
MBL_EXPORT int mbl_schema_takes(const struct mbl_schema *a, const struct mbl_schema *b, struct mbl_error *e);
MBL_EXPORT int mbl_schema_compatible(const struct mbl_schema *a, const struct mbl_schema *b, struct mbl_error *e);

struct mbl_text_column {
    const char *name;               /* the column's */
    const char *bytes;
    const int64_t *offsets;         /* [rows + 1] */
};

struct mbl_word_column {
    const char *name;
    const char *bytes;
    const int64_t *offsets;         /* [count + 1] of words */
    const int64_t *rows;            /* [rows + 1]: the words of each row */
    int64_t count;                  /* words of all rows */
};

struct mbl_dataset {
    struct mbl_schema schema;
    const char *part;               /* "train", "val", "test", "all" */
    int64_t rows;
    const float *features;          /* [rows, schema.features], raw, aligned to 4 at least; NULL if there are none. NaN: missing and kept */
    const int32_t *labels;          /* [rows], MBL_CLASSIFICATION; [words.count], MBL_TAGGING; otherwise NULL */
    const float *targets;           /* [rows], MBL_REGRESSION; otherwise NULL */
    const int64_t *lines;           /* [rows], or NULL where the file doesn't say */
    struct mbl_text_column *texts;       /* text columns, in the schema's order */
    size_t text_count;
    struct mbl_word_column words;   /* name NULL: there is none */
    struct mbl_arena arena;
    struct mbl_safetensors file;
    void *matrix;                   /* features, where they could not be used as they lie in the file */
};

/* Opens a part. Everything is checked: types, shapes against the schema, class and category indices, text offsets. All of it lives until
 * close. */
MBL_EXPORT int mbl_dataset_open(const char *path, struct mbl_dataset *out, struct mbl_error *e);
MBL_EXPORT void mbl_dataset_close(struct mbl_dataset *d); /* all zero is fine */

/* For a role that was given a whole dataset, `count` files in any order: the index of the one that is `part`, or -1; files that are not
 * safetensors (schema.json) are passed over. */
MBL_EXPORT int mbl_dataset_find(const char *const *paths, size_t count, const char *part);

#endif
