/* feed.h: a dataset's part as a model takes it: scaled, checked, on the model's device; and a model's answers to it. */
#ifndef MBL_FEED_H
#define MBL_FEED_H

#include "model.h"

struct mbl_feed {
    struct mbl_dataset data;
    int64_t rows;
    float *scaled;               /* [rows, features] on the host, between bind and upload */
    struct mbk_tensor x;         /* F32 [rows, features] on the device, after upload */
    float *targets;              /* MBL_VALUES: standardized, on the host; NULL otherwise. Labels are in data.labels */
    struct mbl_model *model;
};

/* Opens a part for `m` and brings it to its device; or, with m NULL, just reads it: mbl_feed_bind is to follow. */
MBL_EXPORT int mbl_feed_open(struct mbl_feed *f, struct mbl_model *m, const char *path, struct mbl_error *e);
/* Scales the features as the model's schema says. Fails on data that the model can't take, on values that are no finite numbers, on no
 * rows. */
MBL_EXPORT int mbl_feed_bind(struct mbl_feed *f, struct mbl_model *m, struct mbl_error *e);
/* Moves them to the model's device. */
MBL_EXPORT int mbl_feed_upload(struct mbl_feed *f, struct mbl_error *e);
MBL_EXPORT void mbl_feed_close(struct mbl_feed *f); /* all zero is fine */

/* The model's answers to rows first … first + count - 1, at most `batch` at a time: logits [count, outputs]; of MBL_VALUES in the
 * target's own unit. `out` is on the host. `f` was uploaded. */
MBL_EXPORT int mbl_predict(struct mbl_model *m, const struct mbl_feed *f, int64_t first, int64_t count, int64_t batch, float *out,
                           struct mbl_error *e);

#endif
