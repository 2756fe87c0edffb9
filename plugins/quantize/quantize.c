/* quantize.c: the step `quantize`: a model with quantized weights. How it is done is in lib/quantize.h. */
#include "lib/metrics.h"
#include "lib/quantize.h"

#include <mbuild/plugin.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOKENS_AT_ONCE 16384      /* rows times their length, of a batch of texts */
enum { KEEP_MOST = 64 };

static const char *const ranges[] = {"percentile", "max", NULL};
static const char *const ways[] = {"best", "nearest", "search", "gptq", NULL}; /* in the order of enum mbl_rounding_way */

static const struct {
    const char *name;
    enum mbk_type type;
} known[] = {{"int8", MBK_I8}, {"int4", MBK_I4}, {"q8_0", MBK_Q8_0}, {"q4_0", MBK_Q4_0}, {"q4_k", MBK_Q4_K}, {"float", 0}};
static const char *const schemes[] = {"int8", "int4", "q8_0", "q4_0", "q4_k", NULL};
static const char *const tables[] = {"q8_0", "q4_0", "q4_k", "float", NULL};

static enum mbk_type type_named(const char *name) {
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(known[i].name, name)) return known[i].type;
    return 0;
}

struct job {
    const struct mb_host *host;
    struct mb_run *run;
    struct mbk *k;
    struct mbl_model *from, *to;
    struct mbl_feed feed;        /* what it is calibrated on; rows 0: nothing */
    struct mbl_quantize_report report;
    int64_t before, after;       /* bytes of the folders */
};

/* -- what the models say to the calibration data */

/* How often both models answer the same, or how far apart their numbers are in units of the target's deviation. */
static int compare_rows(struct job *j, int64_t batch, struct mbl_error *e) {
    void *a, *b = NULL;
    const struct mbl_model *m = j->from;
    const uint64_t n = (uint64_t)j->feed.rows * (uint64_t)m->outputs;
    int status = -1;
    if (mbl_try_alloc(&a, n, sizeof(float), "answers", e) || mbl_try_alloc(&b, n, sizeof(float), "answers", e) ||
        mbl_predict(j->from, &j->feed, 0, j->feed.rows, batch, a, e) || mbl_predict(j->to, &j->feed, 0, j->feed.rows, batch, b, e))
        goto done;
    const float *x = a, *y = b;
    double same = 0, squares = 0;
    for (int64_t r = 0; r < j->feed.rows; r++, x += m->outputs, y += m->outputs) {
        int64_t bx = 0, by = 0;
        for (int64_t i = 1; i < m->outputs; i++) {
            if (x[i] > x[bx]) bx = i;
            if (y[i] > y[by]) by = i;
        }
        same += m->problem == MBL_BINARY ? (x[0] > 0) == (y[0] > 0) : bx == by;
        squares += ((double)x[0] - y[0]) * ((double)x[0] - y[0]);
    }
    if (m->problem == MBL_VALUES) j->host->metric(j->run, "difference", sqrt(squares / (double)j->feed.rows) / m->schema.target_deviation);
    else if (m->problem != MBL_EMBEDDING) j->host->metric(j->run, "agreement", same / (double)j->feed.rows);
    status = 0;
done:
    free(a);
    free(b);
    return status;
}

/* Of language models: how surprised each is by the first rows; of those that tag words, how many tags are right. */
static int compare_tokens(struct job *j, int64_t batch, struct mbl_error *e) {
    struct mbl_token_score float_score, score;
    const int64_t samples = j->host->param_int(j->run, "samples"), rows = samples < j->feed.rows ? samples : j->feed.rows;
    if (mbl_feed_judge(j->from, &j->feed, 0, rows, batch, &float_score, e) || mbl_feed_judge(j->to, &j->feed, 0, rows, batch, &score, e))
        return -1;
    if (!score.tokens) return 0;
    if (j->from->problem == MBL_TOKEN_CLASSES) {
        j->host->metric(j->run, "accuracy", (double)score.hits / (double)score.tokens);
        j->host->metric(j->run, "accuracy_float", (double)float_score.hits / (double)score.tokens);
        return 0;
    }
    j->host->metric(j->run, "perplexity", exp(score.loss / (double)score.tokens));
    j->host->metric(j->run, "perplexity_float", exp(float_score.loss / (double)score.tokens));
    return 0;
}

static int compare(struct job *j, struct mbl_error *e) {
    const int64_t longest = j->feed.tokens.longest;
    int64_t batch = 256;
    if (!j->feed.rows) return 0;
    if (longest && batch > TOKENS_AT_ONCE / longest) batch = TOKENS_AT_ONCE / longest > 0 ? TOKENS_AT_ONCE / longest : 1;
    return mbl_problem_per_token(j->from->problem) ? compare_tokens(j, batch, e) : compare_rows(j, batch, e);
}

/* -- the report */

static int save_report(struct job *j, struct mbl_error *e) {
    const char *path = j->host->output_path(j->run, "report", 0);
    struct mbl_quantize_report *r = &j->report;
    struct mbl_arena *a = &r->arena;
    if (!path) return 0;
    struct mbl_json *t = mbl_json_table(a), *list = mbl_json_list(a);
    mbl_json_set(a, t, "bytes_before", mbl_json_int(a, j->before));
    mbl_json_set(a, t, "bytes_after", mbl_json_int(a, j->after));
    mbl_json_set(a, t, "weight_error", mbl_json_float(a, r->weight_error));
    mbl_json_set(a, t, "weight_error_most", mbl_json_float(a, r->weight_error_most));
    mbl_json_set(a, t, "parameters_kept_float", mbl_json_int(a, r->floats));
    for (size_t i = 0; i < r->list_count; i++) {
        const struct mbl_quantized_layer *l = &r->list[i];
        struct mbl_json *one = mbl_json_table(a);
        mbl_json_set(a, one, "layer", mbl_json_string(a, l->name));
        mbl_json_set(a, one, "kept", mbl_json_string(a, l->kept));
        mbl_json_set(a, one, "weights", mbl_json_int(a, l->weights));
        mbl_json_set(a, one, "bytes", mbl_json_int(a, l->bytes));
        if (l->why) mbl_json_set(a, one, "why", mbl_json_string(a, l->why));
        else {
            mbl_json_set(a, one, "error", mbl_json_float(a, l->error));
            mbl_json_set(a, one, "error_most", mbl_json_float(a, l->most));
        }
        mbl_json_push(a, list, one);
    }
    mbl_json_set(a, t, "layers", list);
    return mbl_json_save(path, t, e);
}

static void tell(const struct job *j) {
    const struct mb_host *h = j->host;
    const struct mbl_quantize_report *r = &j->report;
    h->metric(j->run, "weight_error", r->weight_error);
    if (r->list_count) h->metric(j->run, "weight_error_most", r->weight_error_most);
    h->metric(j->run, "size_bytes", (double)j->after);
    h->log(j->run, MB_INFO, "%zu layers to %s: %lld bytes from %lld", r->layers, h->param_string(j->run, "scheme"), (long long)j->after,
           (long long)j->before);
    for (size_t i = 0; i < r->list_count; i++) {
        const struct mbl_quantized_layer *l = &r->list[i];
        if (l->why) h->log(j->run, MB_INFO, "%s stays float32 (%lld bytes): %s", l->name, (long long)l->bytes, l->why);
        else h->log(j->run, MB_INFO, "%s: %s, %lld bytes, error %.4f, at most %.3g", l->name, l->kept, (long long)l->bytes, l->error, l->most);
    }
    if (r->list_count) h->log(j->run, MB_INFO, "%lld parameters stay float32", (long long)r->floats);
}

/* -- the step */

static int read_keep(const struct job *j, const char *keep[KEEP_MOST], size_t *count, struct mbl_error *e) {
    *count = j->host->param_count(j->run, "keep");
    if (*count > KEEP_MOST) return mbl_error_set(e, "keep: %zu names; at most %d expected", *count, KEEP_MOST);
    for (size_t i = 0; i < *count; i++) {
        char name[32];
        snprintf(name, sizeof name, "keep[%zu]", i);
        keep[i] = j->host->param_string(j->run, name);
        if (!*keep[i]) return mbl_error_set(e, "keep: an empty name would keep all layers");
    }
    return 0;
}

static int read_options(const struct job *j, const char *keep[KEEP_MOST], struct mbl_quantize_options *o, struct mbl_error *e) {
    const struct mb_host *h = j->host;
    *o = (struct mbl_quantize_options){.percentile = 100, .batch = 256, .type = type_named(h->param_string(j->run, "scheme")),
                                       .group = h->param_int(j->run, "group"), .vocabulary = type_named(h->param_string(j->run, "embeddings")),
                                       .samples = h->param_int(j->run, "samples"), .keep = keep};
    if (!strcmp(h->param_string(j->run, "range"), "percentile")) o->percentile = h->param_float(j->run, "percentile");
    const char *way = h->param_string(j->run, "rounding");
    while (strcmp(ways[o->rounding], way)) o->rounding++;
    if (o->group % 2) return mbl_error_set(e, "group: an even number expected, found %lld", (long long)o->group);
    return read_keep(j, keep, &o->keep_count, e);
}

static int quantize(struct job *j, struct mbl_error *e) {
    const char *from = j->host->input_path(j->run, "source", 0), *data = j->host->input_path(j->run, "calibrate", 0);
    const char *to = j->host->output_path(j->run, "model", 0), *keep[KEEP_MOST];
    struct mbl_quantize_options o;
    if (read_options(j, keep, &o, e) || mbl_model_load(j->k, from, &j->from, e) || (data && mbl_feed_open(&j->feed, j->from, data, e))) return -1;
    if (mbl_quantize(j->from, data ? &j->feed : NULL, &o, &j->to, &j->report, e)) return mbl_error_wrap(e, "%s", from);
    if (compare(j, e)) return -1;
    j->to->texts = j->from->texts;
    j->from->texts = NULL;
    if (mbl_model_save(j->to, to, e) || mbl_model_size(from, &j->before, e) || mbl_model_size(to, &j->after, e) || save_report(j, e)) return -1;
    tell(j);
    return 0;
}

static int run_quantize(const struct mb_host *host, struct mb_run *run) {
    struct mbl_error e;
    struct job j = {.host = host, .run = run};
    const struct mbk_options options = {.threads = host->cpus(run)};
    if (mbk_open("cpu", &options, &j.k, e.text, sizeof e.text)) return host->fail(run, "%s", e.text);
    int status = quantize(&j, &e);
    mbl_feed_close(&j.feed);
    mbl_quantize_report_free(&j.report);
    mbl_model_free(j.to);
    mbl_model_free(j.from);
    mbk_close(j.k);
    return status ? host->fail(run, "%s", e.text) : MB_OK;
}

static const struct mb_role roles[] = {
    {.name = "source", .flags = MB_INPUT | MB_FOLDER, .kind = "model", .help = "the model of floats"},
    {.name = "calibrate", .flags = MB_INPUT | MB_OPTIONAL, .kind = "dataset",
     .help = "rows like those that the model will see, never the test part; models of features need them"},
    {.name = "model", .flags = MB_OUTPUT | MB_FOLDER, .kind = "model", .help = "the same model with quantized weights"},
    {.name = "report", .flags = MB_OUTPUT | MB_OPTIONAL, .kind = "report", .help = "models of tokens: what became of each layer, JSON"},
    {0}};

static const struct mb_param params[] = {
    {.name = "scheme", .type = MB_ENUM, .choices = schemes, .deflt = "\"int8\"",
     .help = "int8: a scale for each output channel, activations int8 too; models of tokens also int4 in groups, or GGUF's blocks"},
    {.name = "group", .type = MB_INT, .deflt = "64", .least = 16, .most = 4096, .unit = "weights", .help = "int4: how many share a scale"},
    {.name = "embeddings", .type = MB_ENUM, .choices = tables, .deflt = "\"q8_0\"",
     .help = "models of tokens: what the embedding becomes, and an output layer of its own; float: they stay float32"},
    {.name = "rounding", .type = MB_ENUM, .choices = ways, .deflt = "\"best\"",
     .help = "weights of 4 bits: nearest, search for the scale of least error, or gptq by data; best: gptq with data, else search"},
    {.name = "samples", .type = MB_INT, .deflt = "128", .least = 1, .most = 1e6, .unit = "rows",
     .help = "rows of the data that gptq looks at, and that language models are compared on"},
    {.name = "keep", .type = MB_LIST, .element = MB_STRING, .deflt = "[]",
     .help = "models of tokens: layers with one of these in their names stay float32"},
    {.name = "range", .type = MB_ENUM, .choices = ranges, .deflt = "\"percentile\"",
     .help = "models of features: what an activation's scale covers"},
    {.name = "percentile", .type = MB_FLOAT, .deflt = "99.9", .least = 50, .most = 100, .unit = "percent",
     .help = "of the activations' sizes"},
    {0}};

static const struct mb_step steps[] = {
    {.name = "quantize", .help = "make a model smaller and faster: weights of 8 or 4 bits instead of float32", .flags = MB_DETERMINISTIC,
     .roles = roles, .params = params, .run = run_quantize},
    {0}};

static const struct mb_plugin plugin = {MB_PLUGIN_HEAD, .name = "quantize", .version = "1.1", .help = "quantization", .steps = steps};
MB_PLUGIN(plugin);
