/* metrics.c: figures; see metrics.h. */
#include "metrics.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>

#define ECE_BINS 15

/* -- one row's probabilities, from logits, without overflow */

/* The predicted class, the probability of it, and the logarithm of the label's. */
static int32_t judge_softmax(const float *z, size_t n, int32_t label, double *confidence, double *log_p) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (z[i] > z[best]) best = i;
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += exp((double)z[i] - z[best]);
    *confidence = 1 / sum;
    *log_p = (double)z[label] - z[best] - log(sum);
    return (int32_t)best;
}

static int32_t judge_sigmoid(double z, int32_t label, double *confidence, double *log_p) {
    double toward = label ? z : -z;
    *confidence = 1 / (1 + exp(-fabs(z)));
    *log_p = toward > 0 ? -log1p(exp(-toward)) : toward - log1p(exp(toward));
    return z > 0;
}

/* -- area under the curve, by ranks (Mann and Whitney); equals share their mean rank */

struct ranked {
    float score;
    int32_t label;
};

static int by_score(const void *a, const void *b) {
    const struct ranked *x = a, *y = b;
    return (x->score > y->score) - (x->score < y->score);
}

static int area_under_curve(int64_t rows, const float *outputs, const int32_t *labels, double *out, struct mbl_error *e) {
    void *p;
    if (mbl_try_alloc(&p, (uint64_t)rows, sizeof(struct ranked), "ranks", e)) return -1;
    struct ranked *r = p;
    double positives = 0, sum = 0;
    for (int64_t i = 0; i < rows; i++) {
        r[i] = (struct ranked){outputs[i], labels[i]};
        positives += labels[i];
    }
    qsort(r, (size_t)rows, sizeof *r, by_score);
    for (int64_t i = 0; i < rows;) {
        int64_t end = i;
        double here = 0;
        for (; end < rows && r[end].score == r[i].score; end++) here += r[end].label;
        sum += here * ((double)(i + end - 1) / 2 + 1);
        i = end;
    }
    free(p);
    double negatives = (double)rows - positives;
    *out = positives > 0 && negatives > 0 ? (sum - positives * (positives + 1) / 2) / (positives * negatives) : NAN;
    return 0;
}

/* -- classification */

static double ratio(double a, double b) {
    return b > 0 ? a / b : 0;
}

void mbl_score_averages(struct mbl_scores *s) {
    int64_t hits = 0, predicted = 0, support = 0;
    double n = (double)s->class_count;
    for (size_t c = 0; c < s->class_count; c++) {
        struct mbl_class_score *k = &s->classes[c];
        k->precision = ratio((double)k->hits, (double)k->predicted);
        k->recall = ratio((double)k->hits, (double)k->support);
        k->f1 = ratio(2 * (double)k->hits, (double)(k->predicted + k->support));
        hits += k->hits;
        predicted += k->predicted;
        support += k->support;
        s->precision_macro += k->precision;
        s->recall_macro += k->recall;
        s->f1_macro += k->f1;
        s->precision_weighted += k->precision * (double)k->support;
        s->recall_weighted += k->recall * (double)k->support;
        s->f1_weighted += k->f1 * (double)k->support;
    }
    double *const macro[] = {&s->precision_macro, &s->recall_macro, &s->f1_macro}, *const weighted[] = {&s->precision_weighted,
                                                                                                        &s->recall_weighted,
                                                                                                        &s->f1_weighted};
    for (int i = 0; i < 3; i++) { /* divided last, so that all ones give 1 */
        *macro[i] = ratio(*macro[i], n);
        *weighted[i] = ratio(*weighted[i], (double)support);
    }
    s->precision_micro = ratio((double)hits, (double)predicted);
    s->recall_micro = ratio((double)hits, (double)support);
    s->f1_micro = ratio(2 * (double)hits, (double)(predicted + support));
}

static int score_classes(struct mbl_scores *s, const float *outputs, const int32_t *labels, struct mbl_arena *arena, struct mbl_error *e) {
    struct {
        double count, confidence, hits;
    } bins[ECE_BINS] = {{0, 0, 0}};
    size_t width = s->problem == MBL_BINARY ? 1 : s->class_count;
    s->classes = mbl_arena_alloc(arena, s->class_count * sizeof *s->classes);
    s->confusion = mbl_arena_alloc(arena, s->class_count * s->class_count * sizeof *s->confusion);
    for (int64_t r = 0; r < s->rows; r++) {
        const float *z = outputs + (size_t)r * width;
        double confidence, log_p;
        int32_t label = labels[r];
        int32_t guess = width == 1 ? judge_sigmoid(z[0], label, &confidence, &log_p) : judge_softmax(z, width, label, &confidence, &log_p);
        s->confusion[(size_t)label * s->class_count + (size_t)guess]++;
        s->classes[label].support++;
        s->classes[guess].predicted++;
        s->classes[label].hits += guess == label;
        s->log_loss -= log_p / (double)s->rows;
        int bin = (int)ceil(confidence * ECE_BINS) - 1; /* a bin is (low, high] */
        if (bin < 0) bin = 0;
        if (bin >= ECE_BINS) bin = ECE_BINS - 1;
        bins[bin].count++;
        bins[bin].confidence += confidence;
        bins[bin].hits += guess == label;
    }
    for (int i = 0; i < ECE_BINS; i++) s->ece += fabs(bins[i].hits - bins[i].confidence) / (double)s->rows;
    mbl_score_averages(s);
    /* With one label a row, each error is one false positive and one false negative: the three micro figures are the accuracy. */
    s->accuracy = s->recall_micro;
    s->auc = NAN;
    return width == 1 ? area_under_curve(s->rows, outputs, labels, &s->auc, e) : 0;
}

/* -- regression */

static void score_values(struct mbl_scores *s, const float *outputs, const float *targets) {
    double n = (double)s->rows, mean = 0, spread = 0, squares = 0;
    for (int64_t r = 0; r < s->rows; r++) mean += targets[r] / n;
    for (int64_t r = 0; r < s->rows; r++) {
        double off = (double)outputs[r] - targets[r], from_mean = targets[r] - mean;
        squares += off * off;
        spread += from_mean * from_mean;
        s->mae += fabs(off) / n;
    }
    s->mse = squares / n;
    s->rmse = sqrt(s->mse);
    s->r2 = spread > 0 ? 1 - squares / spread : NAN;
}

int mbl_score(enum mbl_problem problem, size_t class_count, int64_t rows, const float *outputs, const int32_t *labels, const float *targets,
              struct mbl_arena *arena, struct mbl_scores *out, struct mbl_error *e) {
    *out = (struct mbl_scores){.problem = problem, .rows = rows, .class_count = problem == MBL_VALUES ? 0 : class_count};
    size_t width = problem == MBL_CLASSES ? class_count : 1;
    for (size_t i = 0; i < (size_t)rows * width; i++)
        if (!isfinite(outputs[i])) return mbl_error_set(e, "the model's answer to row %zu is no finite number", i / width + 1);
    if (problem != MBL_VALUES) return score_classes(out, outputs, labels, arena, e);
    score_values(out, outputs, targets);
    return 0;
}

int mbl_score_tokens(enum mbl_problem problem, int64_t rows, int64_t tokens, int64_t hits, double loss_sum, struct mbl_scores *out,
                     struct mbl_error *e) {
    *out = (struct mbl_scores){.problem = problem, .rows = rows, .tokens = tokens};
    if (!tokens) return mbl_error_set(e, "there is no token to judge by");
    if (!isfinite(loss_sum)) return mbl_error_set(e, "the model's answers are no finite numbers");
    out->loss = loss_sum / (double)tokens;
    out->perplexity = exp(out->loss);
    out->accuracy = (double)hits / (double)tokens;
    return 0;
}

void mbl_score_brief(enum mbl_problem problem, size_t class_count, int64_t rows, const float *outputs, const int32_t *labels,
                     const float *targets, double *loss, double *score) {
    *loss = *score = 0;
    if (problem == MBL_VALUES) {
        struct mbl_scores s = {.rows = rows};
        score_values(&s, outputs, targets);
        *loss = s.mse;
        *score = isnan(s.r2) ? 0 : s.r2;
        return;
    }
    size_t width = problem == MBL_BINARY ? 1 : class_count;
    for (int64_t r = 0; r < rows; r++) {
        const float *z = outputs + (size_t)r * width;
        double confidence, log_p;
        int32_t guess =
            width == 1 ? judge_sigmoid(z[0], labels[r], &confidence, &log_p) : judge_softmax(z, width, labels[r], &confidence, &log_p);
        *loss -= log_p / (double)rows;
        *score += guess == labels[r];
    }
    *score /= (double)rows;
}

/* -- names: one table for files, records and messages */

enum where {
    CLASSIFIED = 1 << MBL_CLASSES | 1 << MBL_BINARY,
    TWO = 1 << MBL_BINARY,
    TAGS = 1 << MBL_TOKEN_CLASSES,
    VALUES = 1 << MBL_VALUES,
    LANGUAGE = 1 << MBL_NEXT_TOKEN | 1 << MBL_MASKED_TOKEN
};
static const struct {
    const char *name;
    size_t offset;
    unsigned problems;
} figures[] = {
#define FIGURE(name, problems) {#name, offsetof(struct mbl_scores, name), problems}
    FIGURE(accuracy, CLASSIFIED | LANGUAGE | TAGS),
    {"precision", offsetof(struct mbl_scores, precision_micro), TAGS},
    {"recall", offsetof(struct mbl_scores, recall_micro), TAGS},
    {"f1", offsetof(struct mbl_scores, f1_micro), TAGS},
    FIGURE(precision_strict, TAGS),
    FIGURE(recall_strict, TAGS),
    FIGURE(f1_strict, TAGS),
    FIGURE(precision_macro, CLASSIFIED | TAGS),
    FIGURE(recall_macro, CLASSIFIED | TAGS),
    FIGURE(f1_macro, CLASSIFIED | TAGS),
    FIGURE(precision_micro, CLASSIFIED),
    FIGURE(recall_micro, CLASSIFIED),
    FIGURE(f1_micro, CLASSIFIED),
    FIGURE(precision_weighted, CLASSIFIED | TAGS),
    FIGURE(recall_weighted, CLASSIFIED | TAGS),
    FIGURE(f1_weighted, CLASSIFIED | TAGS),
    FIGURE(log_loss, CLASSIFIED),
    FIGURE(ece, CLASSIFIED),
    FIGURE(auc, TWO),
    FIGURE(mse, VALUES),
    FIGURE(rmse, VALUES),
    FIGURE(mae, VALUES),
    FIGURE(r2, VALUES),
    FIGURE(loss, LANGUAGE | TAGS),
    FIGURE(perplexity, LANGUAGE),
#undef FIGURE
};

void mbl_scores_each(const struct mbl_scores *s, void (*each)(void *ctx, const char *name, double value), void *ctx) {
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++) {
        double value = *(const double *)(const void *)((const char *)s + figures[i].offset);
        if ((figures[i].problems >> s->problem & 1) && isfinite(value)) each(ctx, figures[i].name, value);
    }
}

struct to_json {
    struct mbl_arena *arena;
    struct mbl_json *table;
};
static void set_figure(void *ctx, const char *name, double value) {
    struct to_json *t = ctx;
    mbl_json_set(t->arena, t->table, name, mbl_json_float(t->arena, value));
}

struct mbl_json *mbl_scores_json(const struct mbl_scores *s, const struct mbl_schema *schema, struct mbl_arena *a) {
    struct mbl_json *t = mbl_json_table(a);
    mbl_scores_each(s, set_figure, &(struct to_json){a, t});
    mbl_json_set(a, t, "rows", mbl_json_int(a, s->rows));
    if (LANGUAGE >> s->problem & 1) mbl_json_set(a, t, "tokens", mbl_json_int(a, s->tokens));
    if (TAGS >> s->problem & 1) {
        mbl_json_set(a, t, "words", mbl_json_int(a, s->tokens));
        mbl_json_set(a, t, "scheme", mbl_json_string(a, s->scheme));
    }
    if (!((CLASSIFIED | TAGS) >> s->problem & 1)) return t;
    const char *const *class_names = s->class_names ? s->class_names : schema->classes;
    struct mbl_json *classes = mbl_json_table(a), *matrix = mbl_json_list(a), *names = mbl_json_list(a);
    for (size_t c = 0; c < s->class_count; c++) {
        struct mbl_json *k = mbl_json_table(a), *row = mbl_json_list(a);
        mbl_json_set(a, k, "precision", mbl_json_float(a, s->classes[c].precision));
        mbl_json_set(a, k, "recall", mbl_json_float(a, s->classes[c].recall));
        mbl_json_set(a, k, "f1", mbl_json_float(a, s->classes[c].f1));
        mbl_json_set(a, k, "support", mbl_json_int(a, s->classes[c].support));
        mbl_json_set(a, classes, class_names[c], k);
        for (size_t g = 0; s->confusion && g < s->class_count; g++) mbl_json_push(a, row, mbl_json_int(a, s->confusion[c * s->class_count + g]));
        mbl_json_push(a, matrix, row);
        mbl_json_push(a, names, mbl_json_string(a, class_names[c]));
    }
    mbl_json_set(a, t, "per_class", classes);
    if (!s->confusion) return t;
    struct mbl_json *confusion = mbl_json_table(a); /* rows are true classes, columns predicted ones */
    mbl_json_set(a, confusion, "classes", names);
    mbl_json_set(a, confusion, "counts", matrix);
    mbl_json_set(a, t, "confusion", confusion);
    return t;
}
