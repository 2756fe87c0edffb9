/* predict.h: what the files of the step `predict` share. */
#ifndef PREDICT_H
#define PREDICT_H

#include "lib/feed.h"

#include <mbuild/plugin.h>

struct answers {
    struct mbk *k;
    struct mbl_model *model;
    struct mbl_arena arena;
    int64_t rows, time;          /* time: 0 where there is one answer to a row */
    float *outputs;              /* [rows, (time,) model->outputs] */
    int32_t *lengths;            /* [rows]: of rows of tokens */
};

/* The model's answers to a part, a line of JSON a row, into the file `to`: the likeliest class and its probability, the value, the
 * embedding, or each word's class and the entities that these make. Sets a->rows. */
int predict_lines(struct answers *a, const char *data, int64_t batch, const char *to, struct mbl_error *e);

/* What a recommender that ranks says to the users of the roles data and ids, written to `to`. Sets a->rows. */
enum predict_form { PREDICT_TENSORS, PREDICT_JSON, PREDICT_LINES };
int predict_lists(const struct mb_host *host, struct mb_run *run, struct answers *a, enum predict_form form, const char *to,
                  struct mbl_error *e);

/* Opens a part whose labels, if it has any, are of no interest. */
int predict_open(struct answers *a, const char *data, struct mbl_feed *feed, struct mbl_error *e);

#endif
