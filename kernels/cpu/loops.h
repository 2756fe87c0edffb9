/* loops.h: the loops that exponentials make dear, for one level of processor: with AVX2 and AVX-512 they are made of fused multiply-adds,
 * which halve them. So their last bits differ from level to level, as those of products do, but not from run to run or by the number of
 * threads. In place is fine.
 */
#ifndef MBK_CPU_LOOPS_H
#define MBK_CPU_LOOPS_H

#include "cpu.h"

struct cpu_loops {
    struct {
        void (*forward)(const float *x, float *y, int64_t n);
        void (*backward)(const float *x, const float *dy, float *dx, int64_t n); /* dx = dy f'(x) */
    } activations[MBK_SIGMOID + 1];
    void (*softmax)(const float *x, float *y, int64_t n);
    /* p = e^((x − most) · inverse); returns its sum */
    float (*exponentials)(const float *x, float most, float inverse, float *p, int64_t n);
    /* x = e^(x − the greatest so far), its sum returned; `most` is taken further */
    float (*attention_weigh)(float *x, int64_t n, float *most);
    /* Scores p into e^(p − lse) · kept, and the gradient dp of what they weigh into that of the scores: p (dp · kept − delta). kept NULL:
     * nothing is dropped. */
    void (*attention_slopes)(float *p, float *dp, const float *kept, float lse, float delta, int64_t n);
};

extern const struct cpu_loops cpu_loops_plain;
#ifdef __x86_64__
extern const struct cpu_loops cpu_loops_avx2, cpu_loops_avx512;
#endif

/* Those for this processor. */
const struct cpu_loops *cpu_loops_of(const struct mbk *k);

#endif
