/* rows.h: which rows are kept, and which part each goes to. */
#ifndef DATASET_ROWS_H
#define DATASET_ROWS_H

#include "options.h"
#include "table.h"

struct rows {
    size_t *at;                  /* row numbers of the table, ascending */
    size_t count;
};

/* A list of rows that broke something: the first ten with what was wrong, and how many there are. */
struct breach {
    struct mbl_buf lines;
    size_t count;
};
void breach_add(struct breach *b, const struct table *t, size_t row, const char *format, ...) __attribute__((format(printf, 4, 5)));
void breach_end(struct breach *b, const char *what,
                struct mbl_buf *out); /* appends "what: N rows:\n  file:line: …" and frees; nothing if none */

struct cleaned {
    struct rows rows;
    size_t missing, duplicates;  /* how many rows were dropped, or kept where the rule says keep */
};
/* Applies `clean`: what is missing, then what is there twice. POLICY_MEAN is left to fill_missing, for it takes the training part. */
int clean_rows(const struct table *t, const struct options *o, struct cleaned *out, struct mbl_error *e);

/* Whether the tags of the rows that are kept fit the rule's scheme; the error lists the rows where they don't. */
int tags_fit(const struct table *t, const struct options *o, const struct rows *kept, struct mbl_error *e);

/* Fills in what is missing (POLICY_MEAN) by what the rows of `train` say. */
int fill_missing(struct table *t, const struct rows *train, struct mbl_error *e);

/* Parts of `kept`: parts[PART_…], empty ones with count 0. Remarks go to note. Free each `at`. */
int split_rows(const struct table *t, const struct options *o, const struct rows *kept, struct rows parts[PART_COUNT],
               void (*note)(void *context, const char *text), void *context, struct mbl_error *e);

/* `expect`, JSON as the rule gave it, NULL if it gave none. `all` is before cleaning. Fails with everything that does not hold. */
int expect_hold(const struct table *t, const struct mbl_json *expect, const struct rows *kept, struct mbl_error *e);

#endif
