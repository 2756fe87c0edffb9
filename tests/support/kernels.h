/* kernels.h: what the tests of tensor operations share.
 *
 * A test has its numbers in float64. kernels_put rounds them to the tensor's type, in place, so that the reference sees what the device
 * sees, and lays them out one element off any alignment, between guards that kernels_check_guards looks at. Tolerances follow from the
 * type's rounding and from the length of sums.
 */
#ifndef MB_TEST_KERNELS_H
#define MB_TEST_KERNELS_H

#include <stdint.h>

#include "mbuild/kernels.h"

/* The backends that tests run on: every body gets its name. "cuda" is skipped by name where there is none. */
extern const char *const kernels_backends[];
enum { KERNELS_BACKENDS = 2 };

/* A stream with that many threads (0: as many as the machine has). Skips the test if there is no such device. */
struct mbk *kernels_open(const char *backend, int threads);
void kernels_close(struct mbk *k);

/* Fails the test with mbk_error if an operation did. */
#define CHECK_RUN(k, call) ((call) == 0 ? (void)0 : test_fail(__FILE__, __LINE__, "%s: %s", #call, mbk_error(k)))

/* Numbers that are the same everywhere: uniform in [least, most), of stream `seed`. Free with free. */
double *kernels_random(int64_t n, double least, double most, unsigned seed);
double *kernels_zeros(int64_t n);

/* A tensor on the device with these values, which are rounded in place as its type rounds. `values` NULL: what is there is nonsense. */
struct mbk_tensor kernels_put(struct mbk *k, enum mbk_type type, int rank, const int64_t *shape, double *values);
#define SHAPE(...) (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), (int64_t[]){ __VA_ARGS__ }
/* The tensor's elements as float64; free with free. */
double *kernels_get(struct mbk *k, const struct mbk_tensor *t);
/* Frees it, after looking whether something was written beside it. */
void kernels_drop(struct mbk *k, struct mbk_tensor *t);

/* One unit of rounding, relative, of a type: 2^-24 for float32. */
double kernels_epsilon(enum mbk_type type);

/* Each element must be expected[i] to within `rounding of t's type` · |expected| + `factor` roundings of float32 · magnitude[i] (NULL:
 * |expected|). NaN wants NaN, infinity the same infinity. */
void kernels_check(struct mbk *k, const char *what, const struct mbk_tensor *t, const double *expected, const double *magnitude,
                   double factor);

/* d f / d x by central differences; f reads x through `context`. */
void kernels_differentiate(double (*f)(void *context), void *context, double *x, int64_t n, double *gradient);

/* Floats of other types, done here once more so that the library is not its own judge. */
double kernels_round(enum mbk_type type, double x);

#endif
