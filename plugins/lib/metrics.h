/* metrics.h: how good answers are: the figures of `evaluate`, computed in double from logits or values on the host.
 *
 * Names and definitions are scikit-learn's: precision and recall of a class that was never predicted or never there are 0; macro is the
 * mean over classes, weighted the mean weighted by support, micro from the summed counts.
 */
#ifndef MBL_METRICS_H
#define MBL_METRICS_H

#include "model.h"

struct mbl_class_score {
    int64_t support, predicted, hits;
    double precision, recall, f1;
};

struct mbl_scores {
    enum mbl_problem problem;
    int64_t rows;
    size_t class_count;
    /* classification, and tags of words (tagging.h): there classes are tags, or where the scheme marks entities, types of these */
    struct mbl_class_score *classes;   /* [class_count] */
    const char *const *class_names;    /* NULL: the schema's */
    int64_t *confusion;                /* [class_count, class_count]: rows are true classes, columns predicted ones */
    double accuracy, log_loss, ece;    /* ece: Guo et al. 2017, 15 bins of equal width over the greatest probability */
    double precision_macro, recall_macro, f1_macro, precision_micro, recall_micro, f1_micro, precision_weighted, recall_weighted,
        f1_weighted;
    double auc;                        /* MBL_BINARY: area under the ROC curve of the second class; NaN if one class is missing */
    const char *scheme;                /* of tags; NULL otherwise */
    double precision_strict, recall_strict, f1_strict; /* of entities; NaN where tags are plain */
    /* regression */
    double mse, rmse, mae, r2;         /* r2: NaN if all targets are alike */
    /* language modelling: over the tokens that count; accuracy is that of the likeliest token. Tags: tokens are words */
    int64_t tokens;
    double loss, perplexity;           /* mean negative log-likelihood in nats, and e to this power */
};

/* Scores `rows` answers: logits [rows, class_count], or [rows] of the second class (MBL_BINARY), against labels; values [rows] against
 * targets. Arrays are put into `arena`. Fails if an answer is no finite number. */
MBL_EXPORT int mbl_score(enum mbl_problem problem, size_t class_count, int64_t rows, const float *outputs, const int32_t *labels,
                         const float *targets, struct mbl_arena *arena, struct mbl_scores *out, struct mbl_error *e);

/* The same of a language model, from sums over its tokens. Fails if there are none, or the loss is no finite number. */
MBL_EXPORT int mbl_score_tokens(enum mbl_problem problem, int64_t rows, int64_t tokens, int64_t hits, double loss_sum,
                                struct mbl_scores *out, struct mbl_error *e);

/* Of classes whose support, predicted and hits were counted: each one's figures, and their averages. */
void mbl_score_averages(struct mbl_scores *s);

/* Just the loss (mean negative log-likelihood, or mean squared error) and the score (accuracy, or R², 0 where there is none), for the
 * epochs of a training; allocates nothing. */
MBL_EXPORT void mbl_score_brief(enum mbl_problem problem, size_t class_count, int64_t rows, const float *outputs, const int32_t *labels,
                                const float *targets, double *loss, double *score);

/* As a table: rows, each figure under its name, per class and the confusion matrix by class names. Figures that don't exist are left out.
 */
MBL_EXPORT struct mbl_json *mbl_scores_json(const struct mbl_scores *s, const struct mbl_schema *schema, struct mbl_arena *arena);

/* Calls `each` for every single figure, by name. */
MBL_EXPORT void mbl_scores_each(const struct mbl_scores *s, void (*each)(void *ctx, const char *name, double value), void *ctx);

#endif
