/* optimizers.c: Adam, AdamW, SGD, norms and clipping over many tensors, on every backend, against float64. */
#include "kernels.h"
#include "reference/reference.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>

static const int64_t sizes[] = { 1, 0, 7, 1031, 64, 0, 5000, 3 };
enum { COUNT = sizeof sizes / sizeof sizes[0], STEPS = 5 };

struct optimizer_test {
    const char *backend, *name;
    enum mbk_type type, gradient;
    int adam, coupled, nesterov;
    double momentum;
};

/* What a parameter is in float64. */
struct truth {
    double *value, *gradient, *first, *second;
};

static void step_body(const void *argument)
{
    const struct optimizer_test *test = argument;
    struct mbk *k = kernels_open(test->backend, 3);
    int master = test->type != MBK_F32;
    struct mbk_parameter parameters[COUNT];
    struct truth truth[COUNT];
    for (int i = 0; i < COUNT; i++) {
        int64_t n = sizes[i];
        truth[i] = (struct truth){ kernels_random(n, -1, 1, 1 + (unsigned)i), kernels_random(n, -1, 1, 100 + (unsigned)i),
                                   kernels_zeros(n), kernels_zeros(n) };
        parameters[i] = (struct mbk_parameter){
            .value = kernels_put(k, test->type, SHAPE(n), truth[i].value), .gradient = kernels_put(k, test->gradient, SHAPE(n),
                    truth[i].gradient),
            .first = kernels_put(k, MBK_F32, SHAPE(n), truth[i].first), .second = kernels_put(k, MBK_F32, SHAPE(n), truth[i].second),
            .decay = i % 2 ? 0 : 0.01f,
        };
        if (master)
            parameters[i].master = kernels_put(k, MBK_F32, SHAPE(n), truth[i].value);
    }
    double half = 0.5;
    struct mbk_tensor scale = kernels_put(k, MBK_F32, 0, NULL, &half);
    struct mbk_adam adam = { 0.01f, 0.9f, 0.999f, 1e-8f, test->coupled, 0, 0.25f, &scale };
    struct mbk_sgd sgd = { 0.01f, (float)test->momentum, test->nesterov, 0.25f, &scale };
    for (int s = 1; s <= STEPS; s++) {
        adam.step = s;
        if (test->adam)
            CHECK_RUN(k, mbk_adam(k, &adam, parameters, COUNT));
        else
            CHECK_RUN(k, mbk_sgd(k, &sgd, parameters, COUNT));
        struct mbk_adam ref_a = adam;
        struct mbk_sgd ref_s = sgd;
        ref_a.gradient_scale = ref_s.gradient_scale = 0.125f;
        for (int i = 0; i < COUNT; i++)
            for (int64_t j = 0; j < sizes[i]; j++) {
                struct truth *t = &truth[i];
                if (test->adam)
                    ref_adam(&ref_a, (double)parameters[i].decay, &t->value[j], t->gradient[j], &t->first[j], &t->second[j]);
                else
                    ref_sgd(&ref_s, (double)parameters[i].decay, &t->value[j], t->gradient[j], &t->first[j]);
            }
    }
    for (int i = 0; i < COUNT; i++) {
        double *one = kernels_zeros(sizes[i]);
        for (int64_t j = 0; j < sizes[i]; j++)
            one[j] = 1;
        kernels_check(k, "the value", &parameters[i].value, truth[i].value, one, 16);
        if (master)
            kernels_check(k, "the master", &parameters[i].master, truth[i].value, one, 16);
        if (test->adam || test->momentum != 0)
            kernels_check(k, "the first moment", &parameters[i].first, truth[i].first, one, 16);
        if (test->adam)
            kernels_check(k, "the second moment", &parameters[i].second, truth[i].second, one, 4);
        free(one);
        struct mbk_tensor *all[] = { &parameters[i].value, &parameters[i].gradient, &parameters[i].first, &parameters[i].second };
        for (int j = 0; j < 4; j++)
            kernels_drop(k, all[j]);
        if (master)
            kernels_drop(k, &parameters[i].master);
        double *host[] = { truth[i].value, truth[i].gradient, truth[i].first, truth[i].second };
        for (int j = 0; j < 4; j++)
            free(host[j]);
    }
    kernels_drop(k, &scale);
    kernels_close(k);
}

static void norm_body(const void *argument)
{
    const struct optimizer_test *test = argument;
    struct mbk *k = kernels_open(test->backend, 3);
    struct mbk_parameter parameters[COUNT];
    double sum = 0, norm, scale;
    for (int i = 0; i < COUNT; i++) {
        double *g = kernels_random(sizes[i], -1, 1, 1 + (unsigned)i);
        parameters[i] = (struct mbk_parameter){ .gradient = kernels_put(k, test->gradient, SHAPE(sizes[i]), g) };
        for (int64_t j = 0; j < sizes[i]; j++)
            sum += g[j] * g[j];
        free(g);
    }
    norm = sqrt(sum);
    scale = 5 / (norm + 1e-6);
    struct mbk_tensor tnorm = kernels_put(k, MBK_F32, 0, NULL, NULL), tscale = kernels_put(k, MBK_F32, 0, NULL, NULL);
    CHECK_RUN(k, mbk_gradient_norm(k, parameters, COUNT, 5, &tnorm, &tscale));
    kernels_check(k, "the norm", &tnorm, &norm, NULL, 32);
    kernels_check(k, "the factor that clips", &tscale, &scale, NULL, 32);
    scale = 1;
    CHECK_RUN(k, mbk_gradient_norm(k, parameters, COUNT, 1e9f, NULL, &tscale));
    kernels_check(k, "the factor where nothing is clipped", &tscale, &scale, NULL, 0);
    CHECK_RUN(k, mbk_zero_gradients(k, parameters, COUNT));
    CHECK_RUN(k, mbk_gradient_norm(k, parameters, COUNT, 5, &tnorm, NULL));
    norm = 0;
    kernels_check(k, "the norm of nothing", &tnorm, &norm, NULL, 0);
    for (int i = 0; i < COUNT; i++)
        kernels_drop(k, &parameters[i].gradient);
    kernels_drop(k, &tnorm);
    kernels_drop(k, &tscale);
    kernels_close(k);
}

TEST_TABLE
{
    static const struct optimizer_test kinds[] = {
        { .name = "AdamW", .adam = 1 },
        { .name = "Adam with L2", .adam = 1, .coupled = 1 },
        { .name = "SGD" },
        { .name = "SGD with momentum", .momentum = 0.9 },
        { .name = "SGD by Nesterov", .momentum = 0.9, .nesterov = 1 },
    };
    static const enum mbk_type types[][2] = { { MBK_F32, MBK_F32 }, { MBK_BF16, MBK_BF16 }, { MBK_BF16, MBK_F32 } };
    static struct optimizer_test tests[KERNELS_BACKENDS * 3 * 5];
    struct optimizer_test *t = tests;
    for (int b = 0; b < KERNELS_BACKENDS; b++)
        for (int y = 0; y < 3; y++)
            for (int i = 0; i < 5; i++, t++) {
                *t = kinds[i];
                t->backend = kernels_backends[b];
                t->type = types[y][0];
                t->gradient = types[y][1];
                test_add(step_body, t, "%s, %s by gradients in %s: five steps of %s over eight tensors", t->backend, mbk_type_name(t->type),
                         mbk_type_name(t->gradient), t->name);
                if (i == 0 && y < 2)
                    test_add(norm_body, t, "%s, %s: the norm of all gradients, and the factor that clips it", t->backend,
                             mbk_type_name(t->type));
            }
}
