/* evaluate.c: the step `evaluate`: a model's figures on data that it has not seen, beside a baseline's.
 *
 * What is measured (time, memory) is another thing than what is computed: it differs from run to run, so it goes to an output of its own
 * and into the step's metrics, and the scores stay the same to the byte.
 */
#include "lib/metrics.h"
#include "lib/precision.h"
#include "lib/tagging.h"
#include "rank.h"

#include <mbuild/plugin.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#define TOKENS_AT_ONCE 16384      /* rows times their length, of a batch of texts */
#define RANKED_AT_MOST 4096       /* rows that are timed together: each is ranked among all items */

struct subject {                 /* a model on the data */
    struct mbk *k;
    struct mbl_model *model;
    struct mbl_feed feed;
    float *answers;              /* NULL where the model answers to each token */
    struct mbl_word_answers words; /* where it gives each word a class */
    int64_t batch;
    struct mbl_arena arena;
    struct mbl_scores scores;
    struct mbl_ranking ranking;  /* of recommenders that rank, in place of the two above */
    struct mbl_ranker *ranker;
    int64_t size;
};

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void close_subject(struct subject *s) {
    mbl_ranker_close(s->ranker);
    mbl_ranking_free(&s->ranking);
    mbl_feed_close(&s->feed);
    free(s->answers);
    mbl_word_answers_close(&s->words);
    mbl_model_free(s->model);
    mbl_arena_free(&s->arena);
    if (s->k) mbk_close(s->k);
    *s = (struct subject){0};
}

/* The model's answers to `count` rows from `first` on, whatever becomes of them. */
static int answer(struct subject *s, int64_t first, int64_t count, int64_t batch, struct mbl_token_score *sums, struct mbl_error *e) {
    if (s->words.tags) return mbl_feed_tag(s->model, &s->feed, first, count, batch, &s->words, e);
    if (s->model->problem == MBL_RANKING) return rank_time(&s->feed, s->ranker, first, count, e);
    if (!s->answers) return mbl_feed_judge(s->model, &s->feed, first, count, batch, sums, e);
    return mbl_predict(s->model, &s->feed, first, count, batch, s->answers, e);
}

static int score_words(struct subject *s, struct mbl_error *e) {
    const struct mbl_tokens *t = &s->feed.tokens;
    struct mbl_tagset set;
    mbl_tagset_open(&s->model->schema, &s->arena, &set);
    return mbl_score_tags(&set, &s->model->schema, t->rows, t->words.rows, t->tags, s->words.tags, s->words.judged, s->words.loss,
                          &s->arena, &s->scores, e);
}

static int score(struct subject *s, struct mbl_error *e) {
    const struct mbl_model *m = s->model;
    struct mbl_token_score sums;
    if (answer(s, 0, s->feed.rows, s->batch, &sums, e)) return -1;
    if (s->words.tags) return score_words(s, e);
    if (!s->answers) return mbl_score_tokens(m->problem, s->feed.rows, sums.tokens, sums.hits, sums.loss, &s->scores, e);
    return mbl_score(m->problem, m->schema.class_count, s->feed.rows, s->answers, s->feed.data.labels, s->feed.data.targets, &s->arena,
                     &s->scores, e);
}

static int judge(const struct mb_host *host, struct mb_run *run, struct subject *s, const char *folder, struct mbl_error *e) {
    const char *data = host->input_path(run, "data", 0);
    void *answers;
    if (mbl_model_load_on(host->device(run), host->cpus(run), folder, &s->k, &s->model, e) ||
        (mbl_precision_is_narrow(host, run) && mbl_model_narrow(s->model, false, e)))
        return -1;
    if (s->model->problem == MBL_EMBEDDING)
        return mbl_error_set(e, "%s has no head: it gives vectors, which nothing here can be judged by; fine-tune it first", folder);
    if (mbl_feed_open(&s->feed, s->model, data, e)) return mbl_error_wrap(e, "%s", folder);
    int64_t longest = s->feed.tokens.longest, most = longest ? TOKENS_AT_ONCE / longest : INT64_MAX;
    s->batch = host->param_int(run, "batch");
    if (s->batch > most) s->batch = most > 0 ? most : 1;
    if (s->model->problem == MBL_TOKEN_CLASSES && mbl_word_answers_open(&s->words, &s->feed, e)) return -1;
    if (s->model->problem == MBL_RANKING) {
        if (rank_judge(host, run, s->model, &s->feed, &s->arena, &s->ranking, e) || mbl_ranker_open(s->model, &s->ranker, e))
            return mbl_error_wrap(e, "%s", folder);
        return mbl_model_size(folder, &s->size, e);
    }
    if (!mbl_problem_per_token(s->model->problem)) {
        if (mbl_try_alloc(&answers, (uint64_t)s->feed.rows * (uint64_t)s->model->outputs, sizeof(float), "the answers", e)) return -1;
        s->answers = answers;
    }
    if (s->feed.tokens.cut)
        host->log(run, MB_WARN, "%s: %lld of %lld texts are longer than %lld tokens and were cut", folder, (long long)s->feed.tokens.cut,
                  (long long)s->feed.rows, (long long)longest);
    return score(s, e) ? mbl_error_wrap(e, "%s", folder) : mbl_model_size(folder, &s->size, e);
}

static struct mbl_json *describe(struct subject *s) {
    struct mbl_arena *a = &s->arena;
    bool ranks = s->model->problem == MBL_RANKING;
    struct mbl_json *t = ranks ? mbl_ranking_json(&s->ranking, false, a) : mbl_scores_json(&s->scores, &s->model->schema, a);
    if (ranks) mbl_json_set(a, t, "popularity", mbl_ranking_json(&s->ranking, true, a));
    mbl_json_set(a, t, "size_bytes", mbl_json_int(a, s->size));
    mbl_json_set(a, t, "parameters", mbl_json_int(a, mbl_model_parameter_count(s->model)));
    mbl_json_set(a, t, "model_type", mbl_json_string(a, s->model->architecture->model_type));
    mbl_json_set(a, t, "problem_type", mbl_json_string(a, mbl_problem_name(s->model->problem)));
    return t;
}

/* -- what is measured */

struct speed {
    double latency_ms, latency_p99_ms; /* one row at a time: the median, and what one in a hundred exceeds */
    double batch_ms;                   /* a row, in batches */
    int64_t timed;
};

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int measure(const struct mb_host *host, struct mb_run *run, struct subject *s, struct speed *out, struct mbl_error *e) {
    int64_t n = host->param_int(run, "timed"), whole = s->feed.rows;
    if (s->model->problem == MBL_RANKING && whole > RANKED_AT_MOST) whole = RANKED_AT_MOST;
    struct mbl_token_score sums;
    double *times = mbl_alloc((size_t)n * sizeof *times), start = now_ms();
    int status = answer(s, 0, whole, s->batch, &sums, e);
    out->batch_ms = (now_ms() - start) / (double)whole;
    out->timed = n;
    for (int64_t i = 0; i < n && !status; i++) {
        start = now_ms();
        status = answer(s, i % s->feed.rows, 1, 1, &sums, e);
        times[i] = now_ms() - start;
    }
    qsort(times, (size_t)n, sizeof *times, by_value);
    out->latency_ms = times[n / 2];
    out->latency_p99_ms = times[(n * 99) / 100];
    free(times);
    return status;
}

static int report_speed(const struct mb_host *host, struct mb_run *run, struct subject *s, struct mbl_error *e) {
    struct speed speed;
    struct rusage usage;
    if (measure(host, run, s, &speed, e)) return -1;
    if (getrusage(RUSAGE_SELF, &usage)) return mbl_error_errno(e, "getrusage");
    double peak = (double)usage.ru_maxrss * 1024;
    host->metric(run, "latency_ms", speed.latency_ms);
    host->metric(run, "peak_memory_bytes", peak);
    const char *path = host->output_path(run, "performance", 0);
    if (!path) return 0;
    struct mbl_arena *a = &s->arena;
    struct mbl_json *t = mbl_json_table(a);
    mbl_json_set(a, t, "latency_ms", mbl_json_float(a, speed.latency_ms));
    mbl_json_set(a, t, "latency_p99_ms", mbl_json_float(a, speed.latency_p99_ms));
    mbl_json_set(a, t, "batch_ms_per_row", mbl_json_float(a, speed.batch_ms));
    mbl_json_set(a, t, "batch", mbl_json_int(a, s->batch));
    mbl_json_set(a, t, "timed", mbl_json_int(a, speed.timed));
    mbl_json_set(a, t, "peak_memory_bytes", mbl_json_float(a, peak));
    mbl_json_set(a, t, "device", mbl_json_string(a, mbk_device(s->k)));
    mbl_json_set(a, t, "device_description", mbl_json_string(a, mbk_description(s->k)));
    return mbl_json_save(path, t, e);
}

/* -- the step */

struct reporter {
    const struct mb_host *host;
    struct mb_run *run;
    const char *prefix;
};
static void report_figure(void *ctx, const char *name, double value) {
    const struct reporter *r = ctx;
    char text[80];
    snprintf(text, sizeof text, "%s%s", r->prefix, name);
    r->host->metric(r->run, text, value);
}

/* What has its place in the step's metrics. */
static void report_scores(const struct mb_host *host, struct mb_run *run, const struct subject *s, const char *prefix) {
    struct reporter r = {host, run, prefix};
    if (s->model->problem != MBL_RANKING) mbl_scores_each(&s->scores, report_figure, &r);
    else mbl_ranking_each(&s->ranking, false, report_figure, &r);
}

static int evaluate(const struct mb_host *host, struct mb_run *run, struct subject *model, struct subject *baseline, struct mbl_error *e) {
    const char *other = host->input_path(run, "baseline", 0);
    if (judge(host, run, model, host->input_path(run, "model", 0), e) || (other && judge(host, run, baseline, other, e))) return -1;
    if (other && model->model->problem != baseline->model->problem)
        return mbl_error_set(e, "the baseline %s solves another problem than the model", other);
    report_scores(host, run, model, "");
    host->metric(run, "size_bytes", (double)model->size);
    struct mbl_json *table = describe(model);
    if (other) {
        mbl_json_set(&model->arena, table, "baseline", describe(baseline));
        report_scores(host, run, baseline, "baseline_");
        host->metric(run, "baseline_size_bytes", (double)baseline->size);
    }
    if (model->model->problem == MBL_RANKING) {
        mbl_ranking_each(&model->ranking, true, report_figure, &(struct reporter){host, run, "popularity_"});
        /* What everybody likes is what a recommender has to beat, where no other is named. */
        if (!other) mbl_json_set(&model->arena, table, "baseline", mbl_ranking_json(&model->ranking, true, &model->arena));
    }
    if (mbl_json_save(host->output_path(run, "metrics", 0), table, e)) return -1;
    return report_speed(host, run, model, e);
}

static int run_evaluate(const struct mb_host *host, struct mb_run *run) {
    struct subject model = {0}, baseline = {0};
    struct mbl_error e;
    int status = evaluate(host, run, &model, &baseline, &e);
    close_subject(&baseline);
    close_subject(&model);
    return status ? host->fail(run, "%s", e.text) : MB_OK;
}

static const struct mb_role roles[] = {
    {.name = "model", .flags = MB_INPUT | MB_FOLDER, .kind = "model", .help = "the model to judge"},
    {.name = "data", .flags = MB_INPUT, .kind = "dataset", .help = "rows that it has not seen"},
    {.name = "baseline", .flags = MB_INPUT | MB_FOLDER | MB_OPTIONAL, .kind = "model", .help = "another model, judged on the same rows"},
    {.name = "metrics", .flags = MB_OUTPUT, .kind = "metrics", .help = "the figures, JSON; the same bytes each time"},
    {.name = "performance", .flags = MB_OUTPUT | MB_OPTIONAL, .kind = "performance", .help = "time and memory as measured, JSON"},
    {0}};

static const struct mb_param params[] = {
    {.name = "batch", .type = MB_INT, .deflt = "256", .least = 1, .most = 1e7, .unit = "rows",
     .help = "how many rows at a time; of texts fewer, if they are long"},
    MBL_PRECISION_PARAM,
    {.name = "k", .type = MB_LIST, .element = MB_INT, .deflt = "[10]", .least = 1, .most = 10000,
     .help = "recommenders: lengths of the lists that recall, NDCG, hit rate and coverage are of"},
    {.name = "timed", .type = MB_INT, .flags = MB_UNKEYED, .deflt = "200", .least = 1, .most = 1e6, .unit = "rows",
     .help = "how many single rows are timed for the latency"},
    {0}};

static const struct mb_step steps[] = {
    {.name = "evaluate", .help = "judge a model on data, beside a baseline",
     .flags = MB_DETERMINISTIC | MB_GPU_MAY | MB_DEVICE_MATTERS | MB_REENTRANT,
     .roles = roles, .params = params, .run = run_evaluate},
    {0}};

static const struct mb_plugin plugin = {MB_PLUGIN_HEAD, .name = "evaluate", .version = "1.0", .help = "evaluation", .steps = steps};
MB_PLUGIN(plugin);
