/* train.h: training: the options, one step, and the loop that the steps `train`, `finetune` and `distill` share.
 *
 * A trainer owns everything that changes from step to step, all of it on the model's device and none of it allocated after the first step.
 * What chance decides (order, dropout, starting weights) follows from the seed and from counters alone, so a trainer whose weights, moments
 * and counters were put back goes on with the same bits.
 */
#ifndef MBL_TRAIN_H
#define MBL_TRAIN_H

#include "feed.h"
#include <mbuild/plugin.h>

enum mbl_optimizer { MBL_SGD, MBL_ADAM, MBL_ADAMW };
enum mbl_schedule { MBL_CONSTANT, MBL_COSINE, MBL_LINEAR_DOWN, MBL_STEPWISE };
enum mbl_watched { MBL_WATCH_LOSS, MBL_WATCH_ACCURACY, MBL_WATCH_R2, MBL_WATCH_NDCG };

struct mbl_train_options {
    enum mbl_optimizer optimizer;
    double lr, momentum, beta1, beta2, epsilon, weight_decay;
    bool nesterov;
    enum mbl_schedule schedule;
    double warmup;               /* epochs from 0 to lr */
    double final;                /* cosine, linear: what is left of lr at the end */
    double factor;               /* stepwise: times this … */
    int64_t every;               /* … each so many epochs */
    enum mbk_type precision;     /* what products are in: F32 or BF16; 0 is F32 */
    enum mbk_type saved;         /* what the weights are saved in, likewise */
    int64_t epochs, batch;
    int64_t accumulate;          /* a batch goes through the model in so many pieces, whose gradients add up */
    uint64_t seed;
    double label_smoothing;
    double clip;                 /* of the gradient's norm; 0: none */
    bool balanced;               /* rows weigh inversely to how frequent their class is */
    bool early_stop;
    int64_t patience;            /* epochs without getting better by more than min_delta */
    double min_delta;
    enum mbl_watched watched;
    int64_t shift;               /* images move by up to so many pixels, anew in each epoch */
    bool mirror;                 /* half of them are mirrored, left to right */
    double temperature, alpha;   /* distillation; used where the trainer has a teacher's answers */
    double checkpoint_seconds;   /* a checkpoint after a step when this much time has passed since the last; 0: after each */
};

/* The learning rate of a step: `step` counts from 0 over the whole training. */
MBL_EXPORT double mbl_learning_rate(const struct mbl_train_options *o, int64_t step, int64_t steps_per_epoch);

/* The order of n rows in an epoch: a permutation by Fisher and Yates, from Philox under the seed. */
MBL_EXPORT void mbl_shuffle(uint64_t seed, int64_t epoch, int64_t n, int32_t *out);

/* What seeds chance for one purpose, so that no two purposes share numbers. */
enum mbl_purpose { MBL_FOR_WEIGHTS = 1, MBL_FOR_ORDER, MBL_FOR_DROPOUT, MBL_FOR_IMAGES, MBL_FOR_BUCKETS, MBL_FOR_MASKS, MBL_FOR_NEGATIVES };
MBL_EXPORT uint64_t mbl_seed_for(uint64_t seed, enum mbl_purpose purpose);

/* One image as an epoch sees it, scaled; `raw` and `out` have the schema's shape. */
void mbl_augment_row(const struct mbl_train_options *o, const struct mbl_schema *s, int64_t epoch, int64_t row, const float *raw,
                     float *out);

struct mbl_epoch {               /* figures of one epoch */
    double loss, score;          /* score: accuracy, or R²; of a recommender in training the share of rows whose item comes first among
                                    those that it was compared with, in validation NDCG at 10 over the full ranking of up to 2,000 users */
};

/* What goes through the model at once: rows of the epoch's order. Its entries, one a row or one a token, padding included, lie side by side
 * in the arrays of an epoch, from `at` on. */
struct mbl_piece {
    int64_t first, rows;
    int64_t width;               /* tokens of a row; 1 for features */
    int64_t at, entries;
    int64_t counted;             /* entries that have a label */
};

/* What there is for all rows (entries: labels, losses, predictions), in an epoch's order; a piece is a view, nothing is gathered. */
enum mbl_array { MBL_X, MBL_LABELS, MBL_TARGETS, MBL_SOFT, MBL_WEIGHTS, MBL_ROW_WEIGHTS, MBL_LOSSES, MBL_PREDICTIONS, MBL_ARRAYS };

/* What a piece's work is the same for, but for numbers: then it can be recorded once and replayed. */
struct mbl_shape {
    int64_t rows, width;
    bool opens, closes;          /* the step's first piece zeroes the gradients, its last one updates the weights */
};
enum { MBL_MOST_RECORDINGS = 64 }; /* shapes beyond are done by calls */
struct mbl_recording {
    struct mbl_shape shape;
    void *graph;                 /* NULL: done by calls once, so that the memory and the plans that it takes are there */
};

/* One that has `streams` leads: on each of them is another one, with a copy of the model and of all that lies on a device, which does its share
 * of every step's pieces. Order, counters and figures are the leader's alone. See train_group.c. */
struct mbl_trainer {
    struct mbl_model *model;
    struct mbl_feed *train;
    struct mbl_train_options options;
    const float *teacher;        /* host, [rows, outputs]: its logits, or values standardized as the targets are; NULL: no distillation … */
    struct mbl_model *teacher_model; /* … or, of models that answer to each token, the teacher itself, on the same stream: asked anew for
                                        each piece, since all its answers would fit nowhere */
    struct mbk *const *streams;  /* of further devices, of the model's kind; they outlive the trainer */
    int stream_count;
    struct mbl_trainer *others;  /* one a stream */
    struct mbk_comm *comm;       /* of all, with `others` */
    struct mbk_tensor *gradients; /* the leader's list of all gradients, a block a device */
    struct mbk_parameter *parameters;
    int parameter_count;
    int64_t steps_per_epoch;
    bool per_token;              /* labels, losses and predictions are of tokens; else of rows */
    struct mbl_piece *pieces;    /* of this epoch */
    int64_t piece_count, pieces_per_step, piece_rows; /* of a whole step; rows of a whole piece */
    int64_t capacity, used;      /* entries: room for, and of this epoch */
    /* counters */
    int64_t epoch, position, step; /* finished epochs; rows done in this one; steps done */
    double best;                 /* of what is watched; the weights then are in `kept` */
    int64_t best_epoch, waited;
    bool has_best;
    int64_t gathered;            /* rows of this epoch whose losses and predictions the leader has, whoever made them */
    /* device memory */
    void *moments, *kept;        /* first and second moments, 2 × model->block_bytes; the best weights, NULL without early_stop */
    struct mbk_tensor arrays[MBL_ARRAYS];                             /* of all rows; losses and predictions as steps fill them */
    struct mbk_tensor fixed[MBL_ARRAYS];                              /* of a piece, where work is recorded and its addresses must stay */
    struct mbk_tensor doutputs, mixed, spare;                         /* of a batch */
    struct mbk_tensor norm, clip_scale;
    struct mbk_tensor judged;                                         /* recommenders: predictions of a batch of another part */
    /* host memory */
    int32_t *host_order, *host_labels, *host_predictions;
    float *host_targets, *host_losses, *staging, *class_weights, *answers;
    int64_t answer_rows;
    /* recordings; see train_record.c */
    bool records;
    struct mbl_recording *recordings;
    int recording_count;
    int64_t replays;             /* pieces so far that were replayed */
    struct mbl_error unrecorded; /* why nothing is recorded any more; "": nothing went wrong */
};

/* `t->model` has memory and starting weights, `t->train` is bound to it; options, teacher and streams are set. Makes the model and `teacher_model`
 * compute in options.precision. */
MBL_EXPORT int mbl_trainer_open(struct mbl_trainer *t, struct mbl_error *e);
MBL_EXPORT void mbl_trainer_close(struct mbl_trainer *t);
/* Puts the rows in order for the epoch that `epoch` says; also after a checkpoint was read. */
MBL_EXPORT int mbl_trainer_begin_epoch(struct mbl_trainer *t, struct mbl_error *e);
MBL_EXPORT int mbl_trainer_step(struct mbl_trainer *t, struct mbl_error *e);
MBL_EXPORT int mbl_trainer_end_epoch(struct mbl_trainer *t, struct mbl_epoch *out, struct mbl_error *e);
/* Loss and score of the model as it is on another part. */
MBL_EXPORT int mbl_trainer_validate(struct mbl_trainer *t, struct mbl_feed *f, struct mbl_epoch *out, struct mbl_error *e);
/* The same for MBL_RANKING. */
int mbl_trainer_validate_pairs(struct mbl_trainer *t, struct mbl_feed *f, struct mbl_epoch *out, struct mbl_error *e);
MBL_EXPORT int mbl_trainer_keep_best(struct mbl_trainer *t, struct mbl_error *e);
MBL_EXPORT int mbl_trainer_restore_best(struct mbl_trainer *t, struct mbl_error *e);

/* The leader is 0, the others follow. */
static inline struct mbl_trainer *mbl_trainer_member(struct mbl_trainer *t, int rank) {
    return rank ? &t->others[rank - 1] : t;
}
/* The others, with models that have the leader's weights; what lies on their devices beside is still to be opened. */
int mbl_group_create(struct mbl_trainer *t, struct mbl_error *e);
void mbl_group_close(struct mbl_trainer *t);
int mbl_group_sum(struct mbl_trainer *t, struct mbl_error *e);    /* all gradients become the sum of all */
int mbl_group_gather(struct mbl_trainer *t, struct mbl_error *e); /* the leader gets the others' losses and predictions of this epoch */
int mbl_group_spread(struct mbl_trainer *t, struct mbl_error *e); /* the others get the leader's weights and moments */

/* Does a piece's work by work(context), or by replaying what that did for a piece of the same shape. */
int mbl_trainer_work(struct mbl_trainer *t, const struct mbl_shape *shape, int (*work)(void *context, struct mbl_error *e), void *context,
                     struct mbl_error *e);
void mbl_trainer_forget(struct mbl_trainer *t); /* all recordings */

/* A checkpoint holds weights, moments, the best weights, this epoch's losses so far, the counters, the text of the log, and a digest over
 * it all. Reading one returns 1 if there is none or it is damaged (then *why says so, else it is ""), and the trainer is untouched; -1 if
 * the device fails. */
MBL_EXPORT int mbl_checkpoint_write(struct mbl_trainer *t, const char *folder, const char *log, struct mbl_error *e);
MBL_EXPORT int mbl_checkpoint_read(struct mbl_trainer *t, const char *folder, struct mbl_buf *log, struct mbl_error *why);

/* What a step adds to training: `train` starts from nothing, `distill` has an input of role "teacher", `finetune` one of role "base". */
enum mbl_training { MBL_TRAIN, MBL_DISTILL, MBL_FINETUNE };

/* The whole of such a step: roles train, val, tokenizer, model, log. */
MBL_EXPORT int mbl_train_run(const struct mb_host *host, struct mb_run *run, enum mbl_training kind);
/* The steps' checks: parameters against each other. */
MBL_EXPORT int mbl_train_check(const struct mb_host *host, struct mb_run *run);
MBL_EXPORT int mbl_finetune_check(const struct mb_host *host, struct mb_run *run);
/* Reads the parameters that MBL_TRAIN_PARAMS (train_params.h) declares. */
int mbl_train_read_options(const struct mb_host *host, struct mb_run *run, enum mbl_training kind, struct mbl_train_options *out);

#endif
