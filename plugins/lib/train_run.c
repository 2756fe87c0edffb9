/* train_run.c: the loop of the steps `train`, `finetune` and `distill`: epochs, validation, early stopping, checkpoints, reports; see
 * train.h. What they start from is train_open.c's. */
#include "train_session.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* -- reports */

static const char *score_name(const struct mbl_session *s) {
    return s->model->problem == MBL_VALUES ? "r2" : "accuracy";
}

/* Of the validation. */
static const char *val_score_name(const struct mbl_session *s) {
    return s->model->problem == MBL_VALUES ? "val_r2" : s->model->problem == MBL_RANKING ? "val_ndcg" : "val_accuracy";
}

static void report_step(struct mbl_session *s, bool always) {
    const struct mbl_trainer *t = &s->trainer;
    double time = now();
    if (!always && time - s->last_progress < 0.1) return;
    s->last_progress = time;
    char text[160];
    int64_t epoch = t->epoch < t->options.epochs ? t->epoch + 1 : t->epoch;
    int n = snprintf(text, sizeof text, "epoch %lld/%lld", (long long)epoch, (long long)t->options.epochs);
    if (s->judged) n += snprintf(text + n, sizeof text - (size_t)n, ", loss %.4f, %s %.4f", s->last.loss, score_name(s), s->last.score);
    if (s->judged && s->has_val)
        snprintf(text + n, sizeof text - (size_t)n, ", validation %.4f, %.4f", s->last_val.loss, s->last_val.score);
    s->host->progress(s->run, (double)t->step, (double)(t->options.epochs * t->steps_per_epoch), text);
}

static void report_epoch(struct mbl_session *s, double lr) {
    const struct mbl_trainer *t = &s->trainer;
    struct mbl_arena *a = &s->arena;
    struct mbl_json *line = mbl_json_table(a);
    const char *val_score = val_score_name(s);
    s->host->metric(s->run, "loss", s->last.loss);
    s->host->metric(s->run, score_name(s), s->last.score);
    if (t->per_token && s->model->problem != MBL_TOKEN_CLASSES && s->has_val) s->host->metric(s->run, "val_perplexity", exp(s->last_val.loss));
    mbl_json_set(a, line, "epoch", mbl_json_int(a, t->epoch));
    mbl_json_set(a, line, "lr", mbl_json_float(a, lr));
    mbl_json_set(a, line, "loss", mbl_json_float(a, s->last.loss));
    mbl_json_set(a, line, score_name(s), mbl_json_float(a, s->last.score));
    if (s->has_val) {
        s->host->metric(s->run, "val_loss", s->last_val.loss);
        s->host->metric(s->run, val_score, s->last_val.score);
        mbl_json_set(a, line, "val_loss", mbl_json_float(a, s->last_val.loss));
        mbl_json_set(a, line, val_score, mbl_json_float(a, s->last_val.score));
    }
    mbl_json_write(line, MBL_JSON_COMPACT, &s->log);
    mbl_buf_addc(&s->log, '\n');
    report_step(s, true);
}

/* -- the loop */

/* Once, and for who asks: whether a step was one call to the device. */
static void report_recording(const struct mbl_session *s) {
    const struct mbl_trainer *t = &s->trainer;
    if (*t->unrecorded.text)
        s->host->log(s->run, MB_DEBUG, "steps aren't recorded, which costs time alone: %s", t->unrecorded.text);
    if (t->replays)
        s->host->log(s->run, MB_DEBUG, "%lld batches were replayed from %d recordings", (long long)t->replays, t->recording_count);
}

/* Whether this epoch is the best so far, and how long none was. */
static int watch(struct mbl_session *s, struct mbl_error *e) {
    struct mbl_trainer *t = &s->trainer;
    const struct mbl_train_options *o = &t->options;
    if (!o->early_stop) return 0;
    double value = o->watched == MBL_WATCH_LOSS ? -s->last_val.loss : s->last_val.score; /* greater is better */
    if (t->has_best && !(value > t->best + o->min_delta)) {
        t->waited++;
        return 0;
    }
    t->best = value;
    t->best_epoch = t->epoch;
    t->waited = 0;
    return mbl_trainer_keep_best(t, e);
}

static int end_epoch(struct mbl_session *s, struct mbl_error *e) {
    struct mbl_trainer *t = &s->trainer;
    double lr = mbl_learning_rate(&t->options, t->step - 1, t->steps_per_epoch);
    if (mbl_trainer_end_epoch(t, &s->last, e)) return -1;
    if (!isfinite(s->last.loss))
        return mbl_error_set(
            e,
            "training diverged: in epoch %lld the loss is no finite number any more; take a smaller learning rate than %g, or clip the gradients",
            (long long)t->epoch, t->options.lr);
    if (s->has_val && mbl_trainer_validate(t, &s->val, &s->last_val, e)) return -1;
    if (s->has_val && !isfinite(s->last_val.loss))
        return mbl_error_set(
            e, "training diverged: after epoch %lld the validation loss is no finite number; take a smaller learning rate than %g",
            (long long)t->epoch, t->options.lr);
    s->judged = true;
    report_epoch(s, lr);
    return watch(s, e);
}

static int save_checkpoint(struct mbl_session *s, struct mbl_error *e) {
    const char *folder = s->host->checkpoint_folder(s->run);
    s->last_checkpoint = now();
    return folder ? mbl_checkpoint_write(&s->trainer, folder, mbl_buf_str(&s->log), e) : 0;
}

static int resume(struct mbl_session *s, struct mbl_error *e) {
    const char *folder = s->host->checkpoint_folder(s->run);
    int found = folder ? mbl_checkpoint_read(&s->trainer, folder, &s->log, e) : 1;
    if (found < 0) return -1;
    if (found == 0)
        s->host->log(s->run, MB_INFO, "going on from a checkpoint after %lld steps, in epoch %lld", (long long)s->trainer.step,
                     (long long)s->trainer.epoch + 1);
    else if (folder && *e->text)
        s->host->log(s->run, MB_WARN, "starting anew: the checkpoint can't be used: %s", e->text);
    return 0;
}

static bool finished(const struct mbl_trainer *t) {
    return t->epoch >= t->options.epochs || (t->options.early_stop && t->waited >= t->options.patience);
}

/* 0, -1, or MB_CANCELLED. A checkpoint may be taken after any step. */
static int loop(struct mbl_session *s, struct mbl_error *e) {
    struct mbl_trainer *t = &s->trainer;
    while (!finished(t)) {
        if (mbl_trainer_begin_epoch(t, e)) return -1;
        while (t->position < s->train.rows) {
            bool cancelled = s->host->cancelled(s->run);
            if (cancelled || (t->step && now() - s->last_checkpoint >= t->options.checkpoint_seconds))
                if (save_checkpoint(s, e)) return -1;
            if (cancelled) return MB_CANCELLED;
            if (mbl_trainer_step(t, e)) return -1;
            report_step(s, false);
        }
        if (end_epoch(s, e)) return -1;
    }
    return 0;
}

static int finish(struct mbl_session *s, struct mbl_error *e) {
    struct mbl_trainer *t = &s->trainer;
    report_recording(s);
    s->host->metric(s->run, "epochs", (double)t->epoch);
    if (t->options.early_stop) {
        if (mbl_trainer_restore_best(t, e) || mbl_trainer_validate(t, &s->val, &s->last_val, e)) return -1;
        s->host->metric(s->run, "best_epoch", (double)t->best_epoch);
        s->host->metric(s->run, "val_loss", s->last_val.loss);
        s->host->metric(s->run, val_score_name(s), s->last_val.score);
    }
    s->host->metric(s->run, "parameters", (double)mbl_model_parameter_count(s->model));
    const char *log = s->host->output_path(s->run, "log", 0);
    if (log && mbl_file_write(log, mbl_buf_str(&s->log), s->log.len, e)) return -1;
    if (s->trainer.options.saved) s->model->saved = s->trainer.options.saved;
    return mbl_model_save(s->model, s->host->output_path(s->run, "model", 0), e);
}

int mbl_train_run(const struct mb_host *host, struct mb_run *run, enum mbl_training kind) {
    struct mbl_session s = {.host = host, .run = run, .kind = kind, .last_checkpoint = now()};
    struct mbl_error e = {""};
    int status = mbl_session_open(&s, &e);
    if (!status) status = resume(&s, &e);
    if (!status) status = loop(&s, &e);
    if (!status) status = finish(&s, &e);
    mbl_session_close(&s);
    return status < 0 ? host->fail(run, "%s", e.text) : status;
}
