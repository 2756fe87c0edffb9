/* activate.h: activations as loops over floats, for whoever fuses them. In place is fine. */
#ifndef MBK_CPU_ACTIVATE_H
#define MBK_CPU_ACTIVATE_H

#include "cpu.h"

typedef void cpu_activation_forward(const float *x, float *y, int64_t n);
typedef void cpu_activation_backward(const float *x, const float *dy, float *dx, int64_t n);

cpu_activation_forward *cpu_activation(enum mbk_activation f);

#endif
