/* transformer.h: what encoders and decoders are made of: the shared parts of their configs, parameters, memory and maths.
 *
 * A model's forward and backward are straight lines of the functions here. Each takes a `struct mbl_maths`, which remembers the first that
 * failed: those behind it do nothing, and the line ends by mbl_maths_end. Shapes: R = rows · time tokens, C the model's width.
 * Must not know which model it serves.
 */
#ifndef MBL_TRANSFORMER_H
#define MBL_TRANSFORMER_H

#include "model.h"

/* -- Parameters. `m->config` holds the folder's own config; these read it, fail on what no model can have, and put the value back. */

/* A linear layer, or a part of one whose columns serve several (GPT-2's c_attn). */
struct mbl_linear {
    size_t weight, bias;
    size_t scales;               /* where the weight is quantized and has some (transformer_quantized.h) */
    bool biased;
    bool across;                 /* the weight is [in, whole], as GPT-2's Conv1D has it; else [out, in] */
    int64_t in, out;
    int64_t first, whole;        /* outputs first … first + out - 1; across: of `whole` */
};
struct mbl_linear mbl_linear_declare(struct mbl_model *m, const char *name, int64_t in, int64_t out, bool biased, float deviation);
struct mbl_linear mbl_linear_declare_across(struct mbl_model *m, const char *name, int64_t in, int64_t out, float deviation);
/* It computes in float32 whatever the model computes in: a head of few numbers, which costs nothing. */
void mbl_linear_keep(struct mbl_model *m, const struct mbl_linear *l);
struct mbl_linear mbl_linear_part(const struct mbl_linear *l, int64_t first, int64_t out);

struct mbl_norm {
    size_t weight, bias;
    bool centred;                /* a layer norm with a bias; else RMS */
    float eps;
};
struct mbl_norm mbl_norm_declare(struct mbl_model *m, const char *name, int64_t width, bool centred, double eps);
size_t mbl_table_declare(struct mbl_model *m, const char *name, int64_t rows, int64_t width, float deviation);

/* The table is the weight of the output as well: see mbl_tied. */
void mbl_table_tie(struct mbl_model *m, size_t table);

/* config[key] must be one of the names that the kernels have an activation for ("gelu", "gelu_new", "silu" …); absent: `otherwise`. */
int mbl_config_act(struct mbl_model *m, const char *key, const char *otherwise, enum mbk_activation *out, struct mbl_error *e);
/* The one value that is understood: anything else is an error that says so. `fine` is the JSON's text without spaces. */
int mbl_config_only(const struct mbl_model *m, const char *key, const char *fine, struct mbl_error *e);
bool mbl_config_bool(const struct mbl_model *m, const char *key, bool otherwise);

/* -- Memory: one block for a batch's values, in the order in which they are asked for.
 *
 * What products read is of the model's `compute` type; the residual stream with its gradient, statistics and what norms read are float32,
 * as under PyTorch's autocast. */
struct mbl_carver {
    char *block;                 /* NULL: just count */
    size_t used;
};
struct mbk_tensor mbl_carve(struct mbl_carver *c, enum mbk_type type, int64_t rows, int64_t columns);
struct mbk_tensor mbl_carve_shape(struct mbl_carver *c, enum mbk_type type, int rank, const int64_t *shape);
/* One like `like` but of that type: `like` itself, where it is. */
struct mbk_tensor mbl_carve_as(struct mbl_carver *c, enum mbk_type type, const struct mbk_tensor *like);

/* The block, and what it is laid out for. A layout is a function that carves and leaves its tensors in m->state. */
struct mbl_workspace {
    void *block;
    size_t bytes;
    int64_t rows, time;
    enum mbk_type compute;
    bool training, laid_out, cached;
};
typedef void mbl_layout(struct mbl_model *m, struct mbl_carver *c, int64_t rows, int64_t time, bool training, bool cached);
/* Makes room if there is too little, and lays out. */
int mbl_workspace_prepare(struct mbl_model *m, struct mbl_workspace *w, mbl_layout *layout, int64_t rows, int64_t time, bool training,
                          bool cached, struct mbl_error *e);
void mbl_workspace_release(struct mbl_model *m, struct mbl_workspace *w);
/* Whether the batch is one that a model of tokens can take: shapes, types, a length that is not above `m->longest`. */
int mbl_batch_check(const struct mbl_model *m, const struct mbl_batch *b, struct mbl_error *e);

/* -- Maths. */
struct mbl_maths {
    struct mbl_model *m;
    const struct mbl_batch *b;
    const char *failed;          /* NULL, or what did */
    struct mbl_error *e;
    bool told;                   /* e holds the message already */
};
int mbl_maths_end(const struct mbl_maths *t); /* 0, or -1 with the error filled in */

/* y = f(x wᵀ + bias) + residual; `before` (optional) keeps what goes into f. `stride`: elements between the rows of x that are taken; 0:
 * all rows. */
void mbl_linear(struct mbl_maths *t, const struct mbl_linear *l, const struct mbk_tensor *x, int64_t stride, enum mbk_activation f,
                const struct mbk_tensor *before, const struct mbk_tensor *y);
/* dx (optional) is set, or added to with `add`. dy is the gradient of what goes into f. */
void mbl_linear_back(struct mbl_maths *t, const struct mbl_linear *l, const struct mbk_tensor *x, int64_t stride,
                     const struct mbk_tensor *dy, const struct mbk_tensor *dx, bool add);
/* y = x wᵀ + bias with the rows of an embedding as w; `bias` may be NULL. */
void mbl_tied(struct mbl_maths *t, size_t table, const size_t *bias, const struct mbk_tensor *x, const struct mbk_tensor *y);
void mbl_tied_back(struct mbl_maths *t, size_t table, const size_t *bias, const struct mbk_tensor *x, const struct mbk_tensor *dy,
                   const struct mbk_tensor *dx);

/* y = residual + dropout(x w + bias): where a block's branch joins again. `site` tells this dropout from all others of the model. */
void mbl_join(struct mbl_maths *t, const struct mbl_linear *l, const struct mbk_tensor *x, double rate, int site,
              const struct mbk_tensor *residual, const struct mbk_tensor *y);
/* dy is kept, for the residual; `spare` is like it, of the type that the product takes. */
void mbl_join_back(struct mbl_maths *t, const struct mbl_linear *l, const struct mbk_tensor *x, double rate, int site,
                   const struct mbk_tensor *dy, const struct mbk_tensor *spare, const struct mbk_tensor *dx);

/* statistics: F32 [2, R], mean and reciprocal deviation; kept for backward. dx is set. */
void mbl_norm_apply(struct mbl_maths *t, const struct mbl_norm *n, const struct mbk_tensor *x, const struct mbk_tensor *statistics,
                   const struct mbk_tensor *y);
void mbl_norm_back(struct mbl_maths *t, const struct mbl_norm *n, const struct mbk_tensor *x, const struct mbk_tensor *statistics,
                        const struct mbk_tensor *dy, const struct mbk_tensor *dx);

/* x as the type that `room` has: x itself if it is, else cast into the room. */
const struct mbk_tensor *mbl_as(struct mbl_maths *t, const struct mbk_tensor *x, const struct mbk_tensor *room);
void mbl_drop(struct mbl_maths *t, double rate, int site, const struct mbk_tensor *x); /* in place; the same call is its backward */
void mbl_activate_back(struct mbl_maths *t, enum mbk_activation f, const struct mbk_tensor *before, const struct mbk_tensor *dy);
void mbl_add(struct mbl_maths *t, const struct mbk_tensor *x, const struct mbk_tensor *y); /* y += x */
void mbl_multiply(struct mbl_maths *t, const struct mbk_tensor *a, const struct mbk_tensor *b, const struct mbk_tensor *c);
void mbl_zero(struct mbl_maths *t, const struct mbk_tensor *x);
/* y [rows, C] = the mean over each row's real tokens; weights F32 [rows, 1, time] is scratch. */
void mbl_mean_rows(struct mbl_maths *t, const struct mbk_tensor *x, const struct mbk_tensor *weights, const struct mbk_tensor *y);

/* x [R, C] = table[ids]; and the table of absolute positions start, start + 1 … added. */
void mbl_embed(struct mbl_maths *t, size_t table, const struct mbk_tensor *ids, const struct mbk_tensor *x);
void mbl_embed_back(struct mbl_maths *t, size_t table, const struct mbk_tensor *ids, const struct mbk_tensor *dx);
void mbl_positions(struct mbl_maths *t, size_t table, int64_t start, const struct mbk_tensor *x);
void mbl_positions_back(struct mbl_maths *t, size_t table, int64_t start, const struct mbk_tensor *dx);

/* The table's first row added to all: the type of tokens where none is said. */
void mbl_add_row(struct mbl_maths *t, size_t table, const struct mbk_tensor *x);
void mbl_add_row_back(struct mbl_maths *t, size_t table, const struct mbk_tensor *dx);

/* Attention among the batch's rows, with the products before it. Keys of padding are not seen. */
struct mbl_heads {
    int64_t heads, groups, size;
    bool causal;
    double dropout;
    struct mbk_rotary rotary;    /* positions; base 0: none such */
};
struct mbl_attention {
    struct mbl_linear query, key, value;
};
struct mbl_attended {            /* q, out [R, heads · size], k, v [R, groups · size], lse F32 [rows, heads, time]; or their gradients */
    struct mbk_tensor q, k, v, out, lse;
};
struct mbl_attended mbl_carve_attended(struct mbl_carver *c, enum mbk_type type, const struct mbl_heads *h, int64_t rows, int64_t time);
/* y->out from x; of a cached batch keys and values go to the cache's `layer`, and all that it has are seen. */
void mbl_attend(struct mbl_maths *t, const struct mbl_heads *h, const struct mbl_attention *a, int64_t layer, int site,
                const struct mbk_tensor *x, const struct mbl_attended *y);
/* From dy->out; the rest of dy is scratch. dx is set, or added to with `add`. */
void mbl_attend_back(struct mbl_maths *t, const struct mbl_heads *h, const struct mbl_attention *a, int site, const struct mbk_tensor *x,
                     const struct mbl_attended *y, const struct mbl_attended *dy, const struct mbk_tensor *dx, bool add);

/* -- Generation: keys and values of all layers for up to `room` tokens of one row. Opaque to all but decoders and generate.c. */
struct mbl_past {
    struct mbk *k;
    int64_t layers, room, used;  /* `used` tokens are in */
    int64_t width;               /* groups · size: of one key */
    enum mbk_type type;          /* as the model computes */
    void *block;                 /* [layers, 2, room, width] */
};
/* Where the batch has a cache: k and v become the places behind what a layer keeps, all_k and all_v the whole of it, them included. */
void mbl_past_next(struct mbl_maths *t, int64_t layer, struct mbk_tensor *k, struct mbk_tensor *v, struct mbk_tensor *all_k,
                    struct mbk_tensor *all_v);
/* Behind the last layer: the cache now holds the batch's tokens. Returns x, of a cached batch its last row alone. */
struct mbk_tensor mbl_past_done(struct mbl_maths *t, const struct mbk_tensor *x);

#endif
