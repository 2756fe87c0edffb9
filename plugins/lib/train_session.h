/* train_session.h: what a run of a training step has open, between train_open.c, which opens it, and train_run.c, which goes through it. */
#ifndef MBL_TRAIN_SESSION_H
#define MBL_TRAIN_SESSION_H

#include "train.h"

struct mbl_session {
    const struct mb_host *host;
    struct mb_run *run;
    enum mbl_training kind;
    struct mbk *k;
    struct mbk **others;         /* streams on the further GPUs that the step holds */
    int other_count;
    struct mbl_arena arena;
    struct mbl_feed train, val;
    bool has_val;
    struct mbl_model *model;
    float *teacher;              /* its answers to all rows of `train` */
    struct mbl_model *teacher_model; /* see struct mbl_trainer */
    struct mbl_trainer trainer;
    struct mbl_buf log;          /* a line of JSON an epoch */
    struct mbl_epoch last, last_val;
    bool judged;                 /* these two say something */
    double last_checkpoint, last_progress; /* by the monotonic clock: decides when to report and save, never what */
};

int mbl_session_open(struct mbl_session *s, struct mbl_error *e);
void mbl_session_close(struct mbl_session *s);

#endif
