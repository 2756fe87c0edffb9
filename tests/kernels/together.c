/* together.c: streams that work together, on every backend that has as many devices. */
#include "kernels.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 3, COUNT = 5003 };

struct together {
    const char *backend;
    int streams;
    enum mbk_type type;
};

/* So many streams of a backend, each on its device; the CPU has but one, for all. */
static void open_streams(const struct together *t, struct mbk **streams)
{
    char message[512], device[32];
    if (strcmp(t->backend, "cpu") && mbk_device_count(t->backend) < t->streams)
        SKIP("there are %d of %s here", mbk_device_count(t->backend), t->backend);
    for (int i = 0; i < t->streams; i++) {
        snprintf(device, sizeof device, strcmp(t->backend, "cpu") ? "%s:%d" : "%s", t->backend, i);
        CHECKF(mbk_open(device, &(struct mbk_options){ .threads = 1 + i }, &streams[i], message, sizeof message) == 0, "%s", message);
    }
}

static void sum_body(const void *argument)
{
    const struct together *t = argument;
    struct mbk *streams[MOST];
    struct mbk_comm *c;
    struct mbk_tensor parts[MOST];
    char message[512];
    double *expected = kernels_zeros(COUNT), *magnitude = kernels_zeros(COUNT);
    open_streams(t, streams);
    CHECKF(mbk_comm_open(streams, t->streams, &c, message, sizeof message) == 0, "%s", message);
    for (int i = 0; i < t->streams; i++) {
        double *values = kernels_random(COUNT, -1, 1, 1 + (unsigned)i);
        parts[i] = kernels_put(streams[i], t->type, SHAPE(COUNT), values);
        for (int64_t j = 0; j < COUNT; j++) {
            expected[j] += values[j];
            magnitude[j] += 4;
        }
        free(values);
    }
    CHECK_RUN(streams[0], mbk_all_reduce(c, parts));
    double *first = kernels_get(streams[0], &parts[0]);
    for (int i = 0; i < t->streams; i++) {
        kernels_check(streams[i], "the sum", &parts[i], expected, magnitude, t->type == MBK_F32 ? 1 : 65536);
        double *same = kernels_get(streams[i], &parts[i]);
        CHECK_MEM(same, first, COUNT * sizeof *same);
        free(same);
        kernels_drop(streams[i], &parts[i]);
    }
    mbk_comm_close(c);
    for (int i = 0; i < t->streams; i++)
        kernels_close(streams[i]);
    free(first);
    free(expected);
    free(magnitude);
}

TEST("cpu: the sum over streams is taken in their order, and parts that aren't alike are refused")
{
    struct mbk *streams[3];
    struct mbk_comm *c;
    char message[512];
    float a[4] = { 1e8f, 1, 2, 3 }, b[4] = { 1, 1, 1, 1 }, d[4] = { -1e8f, 0, 0, 0 }, sums[4] = { 0, 2, 3, 4 };
    struct mbk_tensor parts[3] = { mbk_tensor1(a, MBK_F32, 4), mbk_tensor1(b, MBK_F32, 4), mbk_tensor1(d, MBK_F32, 4) };
    for (int i = 0; i < 3; i++)
        streams[i] = kernels_open("cpu", 1);
    CHECK_EQ(mbk_comm_open(streams, 0, &c, message, sizeof message), -1);
    CHECK_CONTAINS(message, "0 streams can't work together");
    CHECK(mbk_comm_open(streams, 3, &c, message, sizeof message) == 0);
    CHECK_RUN(streams[0], mbk_all_reduce(c, parts));
    CHECK_MEM(a, sums, sizeof sums); /* (1e8 + 1) - 1e8 is 0 in float32, 1 in any order that begins elsewhere */
    CHECK_MEM(b, sums, sizeof sums);
    CHECK_MEM(d, sums, sizeof sums);
    parts[2].shape[0] = 3;
    CHECK_EQ(mbk_all_reduce(c, parts), -1);
    CHECK_CONTAINS(mbk_error(streams[0]), "all_reduce: first is F32 [4] and part is F32 [3]");
    mbk_comm_close(c);
    mbk_comm_close(NULL);
    for (int i = 0; i < 3; i++)
        kernels_close(streams[i]);
}

TEST_TABLE
{
    static struct together tests[KERNELS_BACKENDS * 2 * MOST];
    struct together *t = tests;
    for (int b = 0; b < KERNELS_BACKENDS; b++)
        for (int y = 0; y < 2; y++)
            for (int n = 1; n <= MOST; n++, t++) {
                *t = (struct together){ kernels_backends[b], n, y ? MBK_BF16 : MBK_F32 };
                test_add(sum_body, t, "%s: a sum of %s over %d stream%s has the same bits on each", t->backend, mbk_type_name(t->type), n,
                         n == 1 ? "" : "s");
            }
}
