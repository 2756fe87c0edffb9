/* rows.c: softmax, losses, optimizers, quantization and random words in float64, a row or an element at a time. */
#include "reference.h"

#include <math.h>

static double greatest(const double *x, int64_t n)
{
    double most = -INFINITY;
    for (int64_t i = 0; i < n; i++)
        most = x[i] > most ? x[i] : most;
    return most;
}

/* log Σ e^(x / T), less the greatest x / T. */
static double log_sum(const double *x, double temperature, int64_t n)
{
    double most = greatest(x, n), sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += exp((x[i] - most) / temperature);
    return log(sum);
}

void ref_softmax(const double *x, double *y, int64_t n)
{
    double most = greatest(x, n), sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += exp(x[i] - most);
    for (int64_t i = 0; i < n; i++)
        y[i] = exp(x[i] - most) / sum;
}

double ref_cross_entropy(const double *x, int label, double smoothing, int64_t n)
{
    double most = greatest(x, n), log_of_sum = log_sum(x, 1, n), loss = 0;
    for (int64_t i = 0; i < n; i++) {
        double q = (i == label ? 1 - smoothing : 0) + smoothing / (double)n;
        if (q != 0)
            loss -= q * (x[i] - most - log_of_sum);
    }
    return loss;
}

double ref_bce(const double *x, const double *targets, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += fmax(x[i], 0) - x[i] * targets[i] + log1p(exp(-fabs(x[i])));
    return sum / (double)n;
}

double ref_mse(const double *x, const double *targets, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (x[i] - targets[i]) * (x[i] - targets[i]);
    return sum / (double)n;
}

double ref_distillation(const double *student, const double *teacher, int label, double temperature, double alpha, int64_t n)
{
    double s_most = greatest(student, n), t_most = greatest(teacher, n);
    double s_log = log_sum(student, temperature, n), t_log = log_sum(teacher, temperature, n), divergence = 0;
    for (int64_t i = 0; i < n; i++) {
        double log_p = (teacher[i] - t_most) / temperature - t_log, log_q = (student[i] - s_most) / temperature - s_log;
        if (exp(log_p) > 0)
            divergence += exp(log_p) * (log_p - log_q);
    }
    double hard = alpha == 1 ? 0 : (1 - alpha) * ref_cross_entropy(student, label, 0, n);
    return alpha * temperature * temperature * divergence + hard;
}

void ref_adam(const struct mbk_adam *o, double decay, double *p, double gradient, double *first, double *second)
{
    double b1 = (double)o->beta1, b2 = (double)o->beta2;
    double g = gradient * (double)o->gradient_scale + (o->coupled ? decay * *p : 0);
    *first = b1 * *first + (1 - b1) * g;
    *second = b2 * *second + (1 - b2) * g * g;
    double m = *first / (1 - pow(b1, (double)o->step)), v = *second / (1 - pow(b2, (double)o->step));
    *p -= (double)o->lr * (m / (sqrt(v) + (double)o->eps) + (o->coupled ? 0 : decay * *p));
}

void ref_sgd(const struct mbk_sgd *o, double decay, double *p, double gradient, double *velocity)
{
    double g = gradient * (double)o->gradient_scale + decay * *p;
    *velocity = (double)o->momentum * *velocity + g;
    *p -= (double)o->lr * (o->nesterov ? g + (double)o->momentum * *velocity : *velocity);
}

double ref_row_scale(const double *x, int64_t n)
{
    double most = 0;
    for (int64_t i = 0; i < n; i++)
        most = fabs(x[i]) > most ? fabs(x[i]) : most;
    return most > 0 ? most / 127 : 1;
}

int ref_quantize(double x, double scale)
{
    double q = nearbyint(x / scale);
    return isnan(q) ? 0 : q > 127 ? 127 : q < -127 ? -127 : (int)q;
}

/* One counter, one key, ten rounds of the paper's S-box, the key bumped before each but the first. */
uint32_t ref_random_word(uint64_t seed, uint64_t offset, uint64_t i)
{
    uint64_t counter = offset + i / 4;
    uint32_t c[4] = { (uint32_t)counter, (uint32_t)(counter >> 32), 0, 0 }, key[2] = { (uint32_t)seed, (uint32_t)(seed >> 32) };
    for (int round = 0; round < 10; round++) {
        if (round > 0) {
            key[0] += 0x9E3779B9u;
            key[1] += 0xBB67AE85u;
        }
        uint64_t left = (uint64_t)c[0] * 0xD2511F53u, right = (uint64_t)c[2] * 0xCD9E8D57u;
        uint32_t next[4] = { (uint32_t)(right >> 32) ^ c[1] ^ key[0], (uint32_t)right, (uint32_t)(left >> 32) ^ c[3] ^ key[1],
                             (uint32_t)left };
        for (int j = 0; j < 4; j++)
            c[j] = next[j];
    }
    return c[i % 4];
}
