/* train_options.c: from a step's parameters to struct mbl_train_options; see train.h and train_params.h. */
#include "precision.h"
#include "train.h"

#include <string.h>

static double float_or(const struct mb_host *host, struct mb_run *run, const char *path, double otherwise) {
    return host->param_given(run, path) ? host->param_float(run, path) : otherwise;
}

/* The position of an enum's value in a list that has the C enum's order. */
static int choice(const struct mb_host *host, struct mb_run *run, const char *path, const char *const *names) {
    const char *word = host->param_string(run, path);
    for (int i = 0; names[i]; i++)
        if (!strcmp(names[i], word)) return i;
    return 0;
}

static const char *const optimizers[] = {"sgd", "adam", "adamw", NULL};
static const char *const schedules[] = {"constant", "cosine", "linear", "step", NULL};
static const char *const watchables[] = {"val_loss", "val_accuracy", "val_r2", "val_ndcg", NULL};

int mbl_train_read_options(const struct mb_host *host, struct mb_run *run, enum mbl_training kind, struct mbl_train_options *o) {
    memset(o, 0, sizeof *o);
    o->optimizer = (enum mbl_optimizer)choice(host, run, "optimizer.kind", optimizers);
    o->lr = host->param_float(run, "optimizer.lr");
    o->weight_decay = float_or(host, run, "optimizer.weight_decay", o->optimizer == MBL_ADAMW ? 0.01 : 0);
    o->momentum = float_or(host, run, "optimizer.momentum", 0);
    o->nesterov = host->param_given(run, "optimizer.nesterov") && host->param_bool(run, "optimizer.nesterov");
    o->beta1 = float_or(host, run, "optimizer.beta1", 0.9);
    o->beta2 = float_or(host, run, "optimizer.beta2", 0.999);
    o->epsilon = float_or(host, run, "optimizer.eps", 1e-8);
    o->schedule = (enum mbl_schedule)choice(host, run, "schedule.kind", schedules);
    o->warmup = host->param_float(run, "schedule.warmup");
    o->final = host->param_float(run, "schedule.final");
    o->every = host->param_int(run, "schedule.every");
    o->factor = host->param_float(run, "schedule.factor");
    o->precision = mbl_precision_is_narrow(host, run) ? MBK_BF16 : MBK_F32;
    o->saved = strcmp(host->param_string(run, "save_as"), "bfloat16") ? MBK_F32 : MBK_BF16;
    o->epochs = host->param_int(run, "epochs");
    o->batch = host->param_int(run, "batch");
    o->accumulate = host->param_int(run, "accumulate");
    o->seed = (uint64_t)host->param_int(run, "seed");
    o->clip = host->param_float(run, "clip");
    o->balanced = !strcmp(host->param_string(run, "class_weights"), "balanced");
    o->early_stop = host->param_given(run, "early_stop");
    if (o->early_stop) {
        o->patience = host->param_int(run, "early_stop.patience");
        o->min_delta = host->param_float(run, "early_stop.min_delta");
        o->watched = (enum mbl_watched)choice(host, run, "early_stop.metric", watchables);
    }
    o->checkpoint_seconds = host->param_float(run, "checkpoint_every");
    if (kind == MBL_DISTILL) {
        o->temperature = host->param_float(run, "temperature");
        o->alpha = host->param_float(run, "alpha");
        return 0;
    }
    o->label_smoothing = host->param_float(run, "label_smoothing");
    if (kind == MBL_TRAIN) {
        o->shift = host->param_int(run, "augment.shift");
        o->mirror = host->param_bool(run, "augment.mirror");
    }
    return 0;
}

/* Which optimizer a field belongs to. */
static int check_optimizer(const struct mb_host *host, struct mb_run *run) {
    static const struct {
        const char *path, *name;
        bool of_sgd;
    } own[] = {{"optimizer.momentum", "momentum", true}, {"optimizer.nesterov", "nesterov", true}, {"optimizer.beta1", "beta1", false},
               {"optimizer.beta2", "beta2", false}, {"optimizer.eps", "eps", false}};
    const char *kind = host->param_string(run, "optimizer.kind");
    bool sgd = !strcmp(kind, "sgd");
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (own[i].of_sgd != sgd && host->param_given(run, own[i].path))
            return host->fail(run, "optimizer: %s has no field \"%s\"; it belongs to %s", kind, own[i].name,
                              own[i].of_sgd ? "sgd" : "adam and adamw");
    if (sgd && host->param_given(run, "optimizer.nesterov") && host->param_bool(run, "optimizer.nesterov") &&
        float_or(host, run, "optimizer.momentum", 0) == 0)
        return host->fail(run, "optimizer: nesterov needs a momentum above 0");
    return MB_OK;
}

static int check_texts(const struct mb_host *host, struct mb_run *run) {
    size_t columns = host->param_count(run, "text");
    if (columns > 2) return host->fail(run, "text: one column expected, or two for a pair; found %zu", columns);
    if (host->param_int(run, "accumulate") > host->param_int(run, "batch"))
        return host->fail(run, "accumulate: a batch of %lld rows can't go in %lld pieces", (long long)host->param_int(run, "batch"),
                          (long long)host->param_int(run, "accumulate"));
    return MB_OK;
}

int mbl_finetune_check(const struct mb_host *host, struct mb_run *run) {
    int status = check_optimizer(host, run);
    return status ? status : check_texts(host, run);
}

int mbl_train_check(const struct mb_host *host, struct mb_run *run) {
    struct mbl_arena arena = {0};
    struct mbl_error e;
    struct mbl_json *shape, *config;
    const char *text = host->param_json(run, "model");
    const struct mbl_schema any = {.json = mbl_json_null(&arena)};
    int status = mbl_finetune_check(host, run);
    if (status == MB_OK &&
        (mbl_json_parse(text, strlen(text), "model", &arena, &shape, &e) || mbl_model_config(shape, &any, &arena, &config, &e)))
        status = host->fail(run, "%s", e.text);
    const struct mbl_architecture *a = status == MB_OK ? mbl_architecture_find(mbl_json_get_string(shape, "kind")) : NULL;
    const char *wide = a && a->takes != MBL_TAKES_TOKENS ? "float32" : NULL;
    for (int i = 0; wide && i < 2; i++) {
        const char *const path = i ? "save_as" : "precision";
        if (strcmp(host->param_string(run, path), wide))
            status = host->fail(run, "%s: bfloat16 is for models of tokens, encoder { … } and decoder { … }; %s takes float32", path,
                                a->kind);
    }
    mbl_arena_free(&arena);
    return status;
}
