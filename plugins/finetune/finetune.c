/* finetune.c: the step `finetune`: a model of tokens goes on learning, perhaps something else than before. The loop is in
 * lib/train_run.c. */
#include "lib/train.h"
#include "lib/train_params.h"

static int run_finetune(const struct mb_host *host, struct mb_run *run) {
    return mbl_train_run(host, run, MBL_FINETUNE);
}

static const struct mb_role roles[] = {
    {.name = "base", .flags = MB_INPUT | MB_FOLDER, .kind = "model",
     .help = "where to start: a model that mbuild trained, or a folder in Hugging Face's layout"},
    MBL_TRAIN_ROLES,
    {0}};

static const struct mb_param params[] = {
    MBL_TRAIN_PARAMS,
    {.name = "problem", .type = MB_ENUM, .choices = mbl_token_problems,
     .help = "what to learn; by the data's label, or without one what models of this kind are for, if not said"},
    {.name = "label_smoothing", .type = MB_FLOAT, .deflt = "0", .least = 0, .most = 0.99,
     .help = "three classes or more: share of the truth that is spread over all classes"},
    {0}};

static const struct mb_step steps[] = {
    {.name = "finetune", .help = "go on training a model of tokens, on other data or for another problem",
     .flags = MB_DETERMINISTIC | MB_RESUMABLE | MB_GPU_MAY | MB_DEVICE_MATTERS | MB_REENTRANT,
     .roles = roles, .params = params, .run = run_finetune,
     .check = mbl_finetune_check},
    {0}};

static const struct mb_plugin plugin = {MB_PLUGIN_HEAD, .name = "finetune", .version = "1.0", .help = "fine-tuning", .steps = steps};
MB_PLUGIN(plugin);
