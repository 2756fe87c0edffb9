/* train.c: the step `train`: a model from data, starting from nothing. The loop is in lib/train_run.c. */
#include "lib/train.h"
#include "lib/train_params.h"

static int run_train(const struct mb_host *host, struct mb_run *run) {
    return mbl_train_run(host, run, MBL_TRAIN);
}

static const struct mb_role roles[] = {MBL_TRAIN_ROLES, MBL_TOKENIZER_ROLE, {0}};

static const struct mb_param augment_params[] = {
    {.name = "shift",
     .type = MB_INT,
     .deflt = "0",
     .least = 0,
     .most = 64,
     .unit = "pixels",
     .help = "move each image by up to so much, any way"},
    {.name = "mirror", .type = MB_BOOL, .deflt = "false", .help = "mirror half of the images, left to right"},
    {0}};

static const struct mb_param params[] = {
    MBL_MODEL_PARAM,
    MBL_TRAIN_PARAMS,
    MBL_TOKENIZER_PARAM,
    {.name = "label_smoothing", .type = MB_FLOAT, .deflt = "0", .least = 0, .most = 0.99,
     .help = "three classes or more: share of the truth that is spread over all classes"},
    {.name = "augment", .type = MB_TABLE, .deflt = "{}", .fields = augment_params, .help = "images: never quite the same twice"},
    {0}};

static const struct mb_step steps[] = {
    {.name = "train", .help = "train a model: classes, numbers, or language",
     .flags = MB_DETERMINISTIC | MB_RESUMABLE | MB_GPU_MAY | MB_DEVICE_MATTERS | MB_REENTRANT,
     .roles = roles, .params = params, .run = run_train,
     .check = mbl_train_check},
    {0}};

static const struct mb_plugin plugin = {MB_PLUGIN_HEAD, .name = "train", .version = "1.0", .help = "training", .steps = steps};
MB_PLUGIN(plugin);
