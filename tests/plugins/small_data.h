/* small_data.h: parts of datasets, made in a test: points around a centre for each class, or a linear function with noise. */
#ifndef SMALL_DATA_H
#define SMALL_DATA_H

#include "lib/dataset.h"
#include "test.h"

#include <mbuild/kernels.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct small {
    int64_t rows;
    int features, classes;       /* classes 0: regression */
    int shape[3];                /* height, width, channels; 0: no images */
    uint64_t seed;
    double noise;
};

/* Remembers what a test leaves lying, so that it counts as no leak. */
static inline void *kept(void *p) {
    static void *list[16384];
    static int count;
    CHECK(count < 16384);
    return list[count++] = p;
}

static inline double small_random(uint64_t seed, uint64_t i) {
    uint32_t words[4];
    mbk_philox(seed, i, words);
    return (words[0] + 0.5) / 4294967296.0;
}

/* As JSON text; scaling by offset 0.5, factor 2 so that it is seen to be applied. */
static inline struct mbl_json *small_schema(const struct small *s, struct mbl_arena *a) {
    char text[8192];
    struct mbl_json *json;
    struct mbl_error e;
    int n = snprintf(text, sizeof text, "{\"version\": 1, \"task\": \"%s\", \"columns\": [", s->classes ? "classification" : "regression");
    for (int i = 0; i < s->features; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "{\"name\": \"f%d\", \"kind\": \"numeric\"}, ", i);
    n += snprintf(text + n, sizeof text - (size_t)n, "{\"name\": \"y\", \"kind\": \"label\"}]");
    if (s->classes) {
        n += snprintf(text + n, sizeof text - (size_t)n, ", \"classes\": [");
        for (int c = 0; c < s->classes; c++) n += snprintf(text + n, sizeof text - (size_t)n, "%s\"c%d\"", c ? ", " : "", c);
        n += snprintf(text + n, sizeof text - (size_t)n, "]");
    } else {
        n += snprintf(text + n, sizeof text - (size_t)n, ", \"target\": {\"mean\": 10, \"deviation\": 4}");
    }
    if (s->shape[0]) n += snprintf(text + n, sizeof text - (size_t)n, ", \"shape\": [%d, %d, %d]", s->shape[0], s->shape[1], s->shape[2]);
    snprintf(text + n, sizeof text - (size_t)n, ", \"scaling\": {\"kind\": \"standard\", \"offset\": [0.5], \"factor\": [2]}}");
    if (mbl_json_parse(text, strlen(text), "schema", a, &json, &e)) FAIL("%s", e.text);
    return json;
}

/* Writes a part; `spoil` (optional) may change features [rows, features] before they are written. */
static inline void small_write(const char *path, const struct small *s, void (*spoil)(float *features, void *labels)) {
    struct mbl_arena a = {0};
    struct mbl_error e;
    struct mbl_buf text = {0};
    float *x = calloc((size_t)(s->rows * s->features) + 1, sizeof *x), *targets = calloc((size_t)s->rows + 1, sizeof *targets);
    int32_t *labels = calloc((size_t)s->rows + 1, sizeof *labels);
    int64_t *lines = calloc((size_t)s->rows + 1, sizeof *lines);
    for (int64_t r = 0; r < s->rows; r++) {
        double sum = 10;
        labels[r] = s->classes ? (int32_t)(r % s->classes) : 0;
        lines[r] = r + 2;
        for (int i = 0; i < s->features; i++) {
            double centre = s->classes ? small_random(99, (uint64_t)(labels[r] * s->features + i)) : 0.5;
            x[r * s->features + i] = (float)(centre + s->noise * (small_random(s->seed, (uint64_t)(r * s->features + i)) - 0.5));
            sum += (i + 1) * (x[r * s->features + i] - 0.5);
        }
        targets[r] = (float)sum;
    }
    if (spoil) spoil(x, s->classes ? (void *)labels : (void *)targets);
    struct mbl_tensor t[3] = {{.name = "features", .type = MBL_F32, .rank = 2, .shape = {s->rows, s->features}, .data = x},
                              {.name = "label",
                               .type = s->classes ? MBL_I32 : MBL_F32,
                               .rank = 1,
                               .shape = {s->rows},
                               .data = s->classes ? (void *)labels : (void *)targets},
                              {.name = "line", .type = MBL_I64, .rank = 1, .shape = {s->rows}, .data = lines}};
    if (s->shape[0]) {
        t[0].rank = 4;
        for (int i = 0; i < 3; i++) t[0].shape[1 + i] = s->shape[i];
    }
    mbl_json_write(small_schema(s, &a), MBL_JSON_COMPACT, &text);
    struct mbl_json *metadata = mbl_json_table(&a);
    mbl_json_set(&a, metadata, "schema", mbl_json_string(&a, mbl_buf_str(&text)));
    mbl_json_set(&a, metadata, "part", mbl_json_string(&a, "train"));
    if (mbl_safetensors_save(path, t, 3, metadata, &e)) FAIL("%s", e.text);
    free(x);
    free(targets);
    free(labels);
    free(lines);
    mbl_buf_free(&text);
    mbl_arena_free(&a);
}

#endif
