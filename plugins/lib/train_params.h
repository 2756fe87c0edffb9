/* train_params.h: the parameters that the steps `train` and `distill` share, as rows of their tables. train_options.c reads them.
 *
 * Where a default depends on another parameter, the row has none and its help says what holds.
 */
#ifndef MBL_TRAIN_PARAMS_H
#define MBL_TRAIN_PARAMS_H

#include <mbuild/plugin.h>

static const char *const mbl_model_kinds[] = {"mlp", "cnn", NULL};
static const char *const mbl_activations[] = {"relu", "gelu", "gelu_tanh", "silu", "tanh", "sigmoid", NULL};
static const char *const mbl_optimizers[] = {"sgd", "adam", "adamw", NULL};
static const char *const mbl_schedules[] = {"constant", "cosine", "linear", "step", NULL};
static const char *const mbl_watchables[] = {"val_loss", "val_accuracy", "val_r2", NULL};
static const char *const mbl_weightings[] = {"none", "balanced", NULL};

static const struct mb_param mbl_model_params[] = {
    {.name = "kind", .type = MB_ENUM, .flags = MB_REQUIRED, .choices = mbl_model_kinds, .help = "what sort of model"},
    {.name = "hidden", .type = MB_LIST, .element = MB_INT, .least = 1, .most = 65536, .unit = "units",
     .help = "widths of the hidden layers; none: linear or logistic regression"},
    {.name = "activation", .type = MB_ENUM, .choices = mbl_activations, .help = "behind each layer but the last; relu if not said"},
    {.name = "dropout", .type = MB_FLOAT, .least = 0, .most = 0.95,
     .help = "share of hidden values left out while training; 0 if not said"},
    {.name = "channels", .type = MB_LIST, .element = MB_INT, .least = 1, .most = 65536, .help = "cnn: channels of each convolution"},
    {.name = "kernel", .type = MB_INT, .least = 1, .most = 31, .help = "cnn: size of the convolutions, odd; 3 if not said"},
    {.name = "pool", .type = MB_INT, .least = 1, .most = 31,
     .help = "cnn: size of the max pool behind each convolution, 1 for none; 2 if not said"},
    {0}};

static const struct mb_param mbl_optimizer_params[] = {
    {.name = "kind", .type = MB_ENUM, .choices = mbl_optimizers, .deflt = "\"adamw\"", .help = "which method"},
    {.name = "lr", .type = MB_FLOAT, .deflt = "0.001", .least = 0, .most = 1000, .help = "learning rate"},
    {.name = "weight_decay", .type = MB_FLOAT, .least = 0, .most = 1000,
     .help = "of weights, not of biases; if not said 0.01 for adamw and 0 otherwise"},
    {.name = "momentum", .type = MB_FLOAT, .least = 0, .most = 1, .help = "sgd: share of the last step that is kept; 0 if not said"},
    {.name = "nesterov", .type = MB_BOOL, .help = "sgd: look ahead along the momentum; false if not said"},
    {.name = "beta1", .type = MB_FLOAT, .least = 0, .most = 0.9999999, .help = "adam, adamw: decay of the first moment; 0.9 if not said"},
    {.name = "beta2", .type = MB_FLOAT, .least = 0, .most = 0.9999999,
     .help = "adam, adamw: decay of the second moment; 0.999 if not said"},
    {.name = "eps", .type = MB_FLOAT, .least = 1e-30, .most = 1, .help = "adam, adamw: keeps the division finite; 1e-8 if not said"},
    {0}};

static const struct mb_param mbl_schedule_params[] = {
    {.name = "kind", .type = MB_ENUM, .choices = mbl_schedules, .deflt = "\"constant\"", .help = "how the learning rate goes over time"},
    {.name = "warmup", .type = MB_FLOAT, .deflt = "0", .least = 0, .most = 1e9, .unit = "epochs", .help = "linear rise from 0 at first"},
    {.name = "final", .type = MB_FLOAT, .deflt = "0", .least = 0, .most = 1, .help = "cosine, linear: what is left of it at the end"},
    {.name = "every", .type = MB_INT, .deflt = "10", .least = 1, .most = 1e9, .unit = "epochs", .help = "step: how long each stretch is"},
    {.name = "factor", .type = MB_FLOAT, .deflt = "0.1", .least = 0, .most = 1, .help = "step: what each stretch has of the one before"},
    {0}};

static const struct mb_param mbl_early_stop_params[] = {
    {.name = "patience", .type = MB_INT, .deflt = "10", .least = 1, .most = 1e9, .unit = "epochs",
     .help = "how long to go on without getting better"},
    {.name = "metric", .type = MB_ENUM, .choices = mbl_watchables, .deflt = "\"val_loss\"", .help = "what has to get better"},
    {.name = "min_delta", .type = MB_FLOAT, .deflt = "0", .least = 0, .most = 1e9, .help = "by more than this"},
    {0}};

#define MBL_TRAIN_PARAMS                                                                                                                  \
    {.name = "model", .type = MB_TABLE, .flags = MB_REQUIRED, .fields = mbl_model_params, .help = "what to train: mlp { … }, cnn { … }"}, \
    {.name = "optimizer", .type = MB_TABLE, .deflt = "{}", .fields = mbl_optimizer_params,                                                \
     .help = "sgd { … }, adam { … } or adamw { … }"},                                                                                     \
    {.name = "schedule", .type = MB_TABLE, .deflt = "{}", .fields = mbl_schedule_params, .help = "of the learning rate"},                 \
    {.name = "epochs", .type = MB_INT, .deflt = "30", .least = 1, .most = 1e6, .unit = "epochs", .help = "how often each row is seen"},   \
    {.name = "batch", .type = MB_INT, .deflt = "64", .least = 1, .most = 1e7, .unit = "rows", .help = "how many rows make one step"},     \
    {.name = "seed", .type = MB_INT, .deflt = "1", .least = 0, .most = 9e15, .help = "decides starting weights, order and dropout"},      \
    {.name = "clip", .type = MB_FLOAT, .deflt = "0", .least = 0, .most = 1e9, .help = "longest gradient (2-norm); 0: any"},               \
    {.name = "class_weights", .type = MB_ENUM, .choices = mbl_weightings, .deflt = "\"none\"",                                            \
     .help = "balanced: rows of rare classes weigh more, so that each class weighs the same"},                                            \
    {.name = "early_stop", .type = MB_TABLE, .fields = mbl_early_stop_params,                                                             \
     .help = "stop when the validation part no longer gets better, and keep the best weights"},                                           \
    {.name = "checkpoint_every", .type = MB_FLOAT, .flags = MB_UNKEYED, .deflt = "10", .least = 0, .most = 1e9, .unit = "seconds",        \
     .help = "how much work a killed run loses at most; 0: a checkpoint after each step"}

#define MBL_TRAIN_ROLES                                                                                                                   \
    {.name = "train", .flags = MB_INPUT, .kind = "dataset", .help = "the rows to learn from"},                                            \
    {.name = "val", .flags = MB_INPUT | MB_OPTIONAL, .kind = "dataset", .help = "the rows to judge each epoch by"},                       \
    {.name = "model", .flags = MB_OUTPUT | MB_FOLDER, .kind = "model", .help = "config.json and model.safetensors"},                      \
    {.name = "log", .flags = MB_OUTPUT | MB_OPTIONAL, .kind = "log", .help = "a line of JSON for each epoch"}

#endif
