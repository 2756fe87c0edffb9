/* feed.c: data on their way into a model; see feed.h. */
#include "feed.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int scale_features(struct mbl_feed *f, const struct mbl_schema *s, struct mbl_error *e) {
    size_t n = s->features;
    for (int64_t r = 0; r < f->rows; r++) {
        const float *row = f->data.features + (size_t)r * n;
        float *scaled = f->scaled + (size_t)r * n;
        for (size_t i = 0; i < n; i++) {
            scaled[i] = (row[i] - s->offset[i]) * s->factor[i];
            if (isfinite(scaled[i])) continue;
            return mbl_error_set(e, "line %lld: %s is %s; a model needs numbers: clean the data with missing = \"drop\" or \"mean\"",
                                 (long long)f->data.lines[r], s->feature_names[i],
                                 isfinite(row[i]) ? "too large"
                                 : isnan(row[i])  ? "missing (NaN)"
                                                  : "infinite");
        }
    }
    return 0;
}

static int standardize_targets(struct mbl_feed *f, const struct mbl_schema *s, struct mbl_error *e) {
    void *p;
    if (mbl_try_alloc(&p, (uint64_t)f->rows, sizeof *f->targets, "the targets", e)) return -1;
    f->targets = p;
    for (int64_t r = 0; r < f->rows; r++) {
        f->targets[r] = (float)((f->data.targets[r] - s->target_mean) / s->target_deviation);
        if (!isfinite(f->targets[r])) return mbl_error_set(e, "line %lld: the target is no finite number", (long long)f->data.lines[r]);
    }
    return 0;
}

int mbl_feed_bind(struct mbl_feed *f, struct mbl_model *m, struct mbl_error *e) {
    const struct mbl_schema *s = &m->schema;
    if (mbl_schema_compatible(s, &f->data.schema, e)) return mbl_error_wrap(e, "these data aren't what the model takes");
    if (!f->rows) return mbl_error_set(e, "part \"%s\" has no rows", f->data.part);
    if (m->problem == MBL_VALUES ? !f->data.targets : !f->data.labels) return mbl_error_set(e, "part \"%s\" has no labels", f->data.part);
    void *scaled;
    if (mbl_try_alloc(&scaled, (uint64_t)f->rows * s->features, sizeof(float), "the scaled features", e)) return -1;
    f->scaled = scaled;
    f->model = m;
    if (scale_features(f, s, e)) return -1;
    return m->problem == MBL_VALUES ? standardize_targets(f, s, e) : 0;
}

int mbl_feed_upload(struct mbl_feed *f, struct mbl_error *e) {
    struct mbk *k = f->model->k;
    f->x = mbk_tensor2(NULL, MBK_F32, f->rows, (int64_t)f->model->schema.features);
    f->x.data = mbk_alloc(k, mbk_bytes(&f->x));
    if (!f->x.data) return mbl_error_set(e, "no memory for part \"%s\" (%zu bytes)", f->data.part, mbk_bytes(&f->x));
    if (mbk_write(k, f->x.data, f->scaled, mbk_bytes(&f->x))) return mbl_kernel_failed(k, f->data.part, e);
    free(f->scaled);
    f->scaled = NULL;
    return 0;
}

int mbl_feed_open(struct mbl_feed *f, struct mbl_model *m, const char *path, struct mbl_error *e) {
    memset(f, 0, sizeof *f);
    if (mbl_dataset_open(path, &f->data, e)) return -1;
    f->rows = f->data.rows;
    if (!m || (!mbl_feed_bind(f, m, e) && !mbl_feed_upload(f, e))) return 0;
    mbl_feed_close(f);
    return mbl_error_wrap(e, "%s", path);
}

void mbl_feed_close(struct mbl_feed *f) {
    if (f->x.data) mbk_free(f->model->k, f->x.data);
    free(f->targets);
    free(f->scaled);
    mbl_dataset_close(&f->data);
    memset(f, 0, sizeof *f);
}

int mbl_predict(struct mbl_model *m, const struct mbl_feed *f, int64_t first, int64_t count, int64_t batch, float *out,
                struct mbl_error *e) {
    if (batch > count) batch = count;
    if (m->architecture->reserve(m, batch, false, e)) return -1;
    for (int64_t done = 0; done < count;) {
        int64_t rows = count - done < batch ? count - done : batch;
        struct mbl_batch b = {.x = mbk_rows(&f->x, first + done, rows)};
        struct mbk_tensor outputs;
        if (m->architecture->forward(m, &b, &outputs, e)) return -1;
        if (mbk_read(m->k, out + done * m->outputs, outputs.data, mbk_bytes(&outputs)))
            return mbl_kernel_failed(m->k, "reading answers", e);
        done += rows;
    }
    if (m->problem == MBL_VALUES)
        for (int64_t i = 0; i < count * m->outputs; i++) out[i] = (float)(out[i] * m->schema.target_deviation + m->schema.target_mean);
    return 0;
}
