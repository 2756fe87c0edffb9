/* quantize.c: the step `quantize`: a model in int8, calibrated on data. How it is done is in lib/quantize.c. */
#include "lib/metrics.h"
#include "lib/quantize.h"

#include <mbuild/plugin.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const schemes[] = {"int8", NULL};
static const char *const ranges[] = {"percentile", "max", NULL};

/* How often both models answer the same, or how far apart their numbers are in units of the target's deviation. */
static int compare(const struct mb_host *host, struct mb_run *run, struct mbl_model *m, struct mbl_model *q, struct mbl_feed *f,
                   struct mbl_error *e) {
    void *a, *b = NULL;
    uint64_t n = (uint64_t)f->rows * (uint64_t)m->outputs;
    int status = -1;
    if (mbl_try_alloc(&a, n, sizeof(float), "answers", e) || mbl_try_alloc(&b, n, sizeof(float), "answers", e)) goto done;
    if (mbl_predict(m, f, 0, f->rows, 256, a, e) || mbl_predict(q, f, 0, f->rows, 256, b, e)) goto done;
    const float *x = a, *y = b;
    double same = 0, squares = 0;
    for (int64_t r = 0; r < f->rows; r++, x += m->outputs, y += m->outputs) {
        int64_t bx = 0, by = 0;
        for (int64_t i = 1; i < m->outputs; i++) {
            if (x[i] > x[bx]) bx = i;
            if (y[i] > y[by]) by = i;
        }
        same += m->problem == MBL_BINARY ? (x[0] > 0) == (y[0] > 0) : bx == by;
        squares += ((double)x[0] - y[0]) * ((double)x[0] - y[0]);
    }
    if (m->problem == MBL_VALUES) host->metric(run, "difference", sqrt(squares / (double)f->rows) / m->schema.target_deviation);
    else host->metric(run, "agreement", same / (double)f->rows);
    status = 0;
done:
    free(a);
    free(b);
    return status;
}

static int quantize(const struct mb_host *host, struct mb_run *run, struct mbk *k, struct mbl_model **m, struct mbl_model **q,
                    struct mbl_feed *f, struct mbl_error *e) {
    const char *from = host->input_path(run, "source", 0), *to = host->output_path(run, "model", 0);
    struct mbl_quantize_options o = {.percentile = 100, .batch = 256};
    struct mbl_quantize_report report;
    int64_t before, after;
    if (!strcmp(host->param_string(run, "range"), "percentile")) o.percentile = host->param_float(run, "percentile");
    if (mbl_model_load(k, from, m, e) || mbl_feed_open(f, *m, host->input_path(run, "calibrate", 0), e)) return -1;
    if (mbl_quantize(*m, f, &o, q, &report, e)) return mbl_error_wrap(e, "%s", from);
    if (mbl_model_save(*q, to, e) || mbl_model_size(from, &before, e) || mbl_model_size(to, &after, e) || compare(host, run, *m, *q, f, e))
        return -1;
    host->metric(run, "weight_error", report.weight_error);
    host->metric(run, "size_bytes", (double)after);
    host->log(run, MB_INFO, "%zu layers to int8: %lld bytes from %lld", report.layers, (long long)after, (long long)before);
    return 0;
}

static int run_quantize(const struct mb_host *host, struct mb_run *run) {
    struct mbl_error e;
    struct mbk *k;
    struct mbl_model *m = NULL, *q = NULL;
    struct mbl_feed f = {0};
    struct mbk_options options = {.threads = host->cpus(run)};
    if (mbk_open("cpu", &options, &k, e.text, sizeof e.text)) return host->fail(run, "%s", e.text);
    int status = quantize(host, run, k, &m, &q, &f, &e);
    mbl_feed_close(&f);
    mbl_model_free(q);
    mbl_model_free(m);
    mbk_close(k);
    return status ? host->fail(run, "%s", e.text) : MB_OK;
}

static const struct mb_role roles[] = {
    {.name = "source", .flags = MB_INPUT | MB_FOLDER, .kind = "model", .help = "the float32 model"},
    {.name = "calibrate", .flags = MB_INPUT, .kind = "dataset", .help = "rows like those that the model will see; never the test part"},
    {.name = "model", .flags = MB_OUTPUT | MB_FOLDER, .kind = "model", .help = "the same model with int8 weights"},
    {0}};

static const struct mb_param params[] = {
    {.name = "scheme",
     .type = MB_ENUM,
     .choices = schemes,
     .deflt = "\"int8\"",
     .help = "int8: weights by output channel, activations by layer"},
    {.name = "range", .type = MB_ENUM, .choices = ranges, .deflt = "\"percentile\"", .help = "what an activation's scale covers"},
    {.name = "percentile",
     .type = MB_FLOAT,
     .deflt = "99.9",
     .least = 50,
     .most = 100,
     .unit = "percent",
     .help = "of the activations' sizes"},
    {0}};

static const struct mb_step steps[] = {
    {.name = "quantize", .help = "make a model smaller and faster: int8 instead of float32", .flags = MB_DETERMINISTIC, .roles = roles,
     .params = params, .run = run_quantize},
    {0}};

static const struct mb_plugin plugin = {MB_PLUGIN_HEAD, .name = "quantize", .version = "1.0", .help = "quantization", .steps = steps};
MB_PLUGIN(plugin);
