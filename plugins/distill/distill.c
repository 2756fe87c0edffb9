/* distill.c: the step `distill`: a model that learns from another's answers (Hinton, Vinyals, Dean 2015). The loop is in lib/train_run.c.
 */
#include "lib/train.h"
#include "lib/train_params.h"

static int run_distill(const struct mb_host *host, struct mb_run *run) {
    return mbl_train_run(host, run, MBL_DISTILL);
}

static const struct mb_role roles[] = {
    {.name = "teacher", .flags = MB_INPUT | MB_FOLDER, .kind = "model", .help = "the model to learn from, made for the same data"},
    MBL_TRAIN_ROLES,
    MBL_TOKENIZER_ROLE,
    {0}};

static const struct mb_param params[] = {MBL_MODEL_PARAM,
                                         MBL_TRAIN_PARAMS,
                                         MBL_TOKENIZER_PARAM,
                                         {.name = "temperature",
                                          .type = MB_FLOAT,
                                          .deflt = "2",
                                          .least = 0.01,
                                          .most = 1000,
                                          .help = "how much the teacher's answers are softened; 1: not"},
                                         {.name = "alpha",
                                          .type = MB_FLOAT,
                                          .deflt = "0.5",
                                          .least = 0,
                                          .most = 1,
                                          .help = "share of the teacher's answers in the loss; the rest is the labels'"},
                                         {0}};

static const struct mb_step steps[] = {
    {.name = "distill", .help = "train a model on another one's answers",
     .flags = MB_DETERMINISTIC | MB_RESUMABLE | MB_GPU_MAY | MB_DEVICE_MATTERS | MB_REENTRANT,
     .roles = roles, .params = params, .run = run_distill,
     .check = mbl_train_check},
    {0}};

static const struct mb_plugin plugin = {MB_PLUGIN_HEAD, .name = "distill", .version = "1.0", .help = "knowledge distillation",
                                        .steps = steps};
MB_PLUGIN(plugin);
