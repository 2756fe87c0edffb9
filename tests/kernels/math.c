/* math.c: the vectors' exp, tanh, erf and sigmoid against libm in float64, over all magnitudes. */
#include "cpu/vec_math.h"
#include "test.h"

#include <math.h>

/* The greatest error over a walk through the floats of both signs, in units in the last place of the exact value; least: below it errors
 * are counted in its units. */
static double worst(float (*f)(float), double (*exact)(double), double least, float *where)
{
    double most = 0;
    for (uint32_t bits = 0; bits < 0x7f800000; bits += 1009) {
        for (int sign = 0; sign < 2; sign++) {
            float x = vec_float(bits | (sign ? 0x80000000 : 0));
            double e = exact((double)x), found = (double)f(x);
            if (fabs(e) > 3.4028235e38) {
                CHECKF(found == e || isinf(found), "%a gives %g, not infinity", (double)x, found);
                continue;
            }
            int exponent;
            frexp(fmax(fabs(e), least), &exponent);
            double error = fabs(found - e) / ldexp(1, exponent - 24);
            if (!(error <= most)) {
                most = error;
                *where = x;
            }
        }
    }
    return most;
}

static float f_exp(float x) { return vec_exp(x); }
static float f_tanh(float x) { return vec_tanh(x); }
static float f_erf(float x) { return vec_erf(x); }
static float f_sigmoid(float x) { return vec_sigmoid(x); }
static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

static const struct {
    const char *name;
    float (*f)(float);
    double (*exact)(double);
    double most, least;
} functions[] = {
    { "exp", f_exp, exp, 1.5, 1.18e-38 },
    { "tanh", f_tanh, tanh, 2, 1.18e-38 },
    { "erf", f_erf, erf, 2, 1.18e-38 },
    { "sigmoid", f_sigmoid, sigmoid, 2.5, 1e-30 },
};

static void body(const void *argument)
{
    int i = *(const int *)argument;
    float where = 0;
    double error = worst(functions[i].f, functions[i].exact, functions[i].least, &where);
    CHECKF(error <= functions[i].most, "%s(%a) is %.2f units off", functions[i].name, (double)where, error);
    CHECK(isnan(functions[i].f(NAN)));
    CHECK_NEAR(functions[i].f(INFINITY), functions[i].exact(INFINITY), 0);
    CHECK_NEAR(functions[i].f(-INFINITY), functions[i].exact(-INFINITY), 0);
}

TEST_TABLE
{
    static int index[] = { 0, 1, 2, 3 };
    for (int i = 0; i < 4; i++)
        test_add(body, &index[i], "cpu: %s is within %.1f units in the last place of results from %g on", functions[i].name,
                 functions[i].most,
                 functions[i].least);
}
