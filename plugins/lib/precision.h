/* precision.h: the parameter `precision` of the steps that train models or ask them. What it does is model_precision.c's. */
#ifndef MBL_PRECISION_H
#define MBL_PRECISION_H

#include <mbuild/plugin.h>

#include <stdbool.h>
#include <string.h>

static const char *const mbl_precisions[] = {"float32", "bfloat16", NULL};

#define MBL_PRECISION_PARAM                                                                                                               \
    {.name = "precision", .type = MB_ENUM, .choices = mbl_precisions, .deflt = "\"float32\"",                                             \
     .help = "models of tokens: what products read; sums, norms, losses and, in training, the weights themselves stay float32"}

static inline bool mbl_precision_is_narrow(const struct mb_host *host, struct mb_run *run) {
    return !strcmp(host->param_string(run, "precision"), "bfloat16");
}

#endif
