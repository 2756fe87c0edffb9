/* model.h: a model: a table of functions over a list of named parameters, and the folder that it is kept in.
 *
 * What all models share is here: what problem they solve, the schema of the data they take (with scaling and class names), their
 * parameters, reading and writing config.json and model.safetensors. What makes an mlp an mlp is a `struct mbl_architecture` in a file of
 * its own, listed in model_architectures.c. A new one adds such a file and a row there; nothing else here needs to know it.
 *
 * Names and shapes on disk are PyTorch's: linear weights [out, in], convolutions [out, in, kernel, kernel], the first linear layer after
 * images has its columns in the order channel, row, column. In memory images are NHWC, as the kernels want them.
 */
#ifndef MBL_MODEL_H
#define MBL_MODEL_H

#include "catalogue.h"
#include "dataset.h"

enum mbl_problem {
    MBL_CLASSES = 1, /* one logit a class, softmax */
    MBL_BINARY,      /* two classes, one logit: that of the second class; models of tokens have two, as MBL_CLASSES */
    MBL_VALUES,      /* one number, standardized by the schema's target_mean and target_deviation */
    MBL_NEXT_TOKEN,  /* causal language modelling: a logit for each id of the vocabulary, at each token that for the next one */
    MBL_MASKED_TOKEN, /* masked language modelling: the same, for the token itself */
    MBL_TOKEN_CLASSES, /* a class for each token */
    MBL_EMBEDDING,   /* a vector for a row: the mean over its tokens; there is nothing to learn it by */
    MBL_RANKING      /* which items a user takes, best first; see recommend.h. Ratings are MBL_VALUES */
};

struct mbl_parameter {
    const char *name;
    struct mbk_tensor value;     /* on the device, in the kernels' layout; data NULL before mbl_model_allocate */
    struct mbk_tensor gradient;  /* the same, once mbl_model_allocate_gradients was called, and only where it is trained */
    struct mbk_tensor copy;      /* BF16, what products read while a model learns in bfloat16; data NULL: they read `value` */
    bool multiplied;             /* products read it, in what the model computes in; all else reads float32 */
    int rank;                    /* on disk */
    int64_t shape[4];
    bool across;                 /* a matrix [in, out]; else [out, in] */
    int64_t height, width;       /* memory is [O, height, width, I] where the disk has [O, I, height, width]; 1, 1: the same */
    float bound;                 /* starts uniform in ±bound … */
    float deviation, start;      /* … or normal with this deviation, or else all at `start` */
    bool missing;                /* reading weights found none for it, and that was allowed */
    bool decays;                 /* takes part in weight decay */
    bool padded;                 /* its first row starts at 0: what stands for nobody in particular */
};

/* A batch of features has x; one of tokens has ids and, where wanted, the two behind. All on the model's device. */
struct mbl_batch {
    struct mbk_tensor x;         /* F32 [rows, features], scaled */
    struct mbk_tensor ids;       /* I32 [rows, time] */
    struct mbk_tensor types;     /* I32 [rows, time], of the encoder; data NULL: all 0 */
    struct mbk_tensor positions; /* I32 [rows, time], of models that count them, where some row has `pad` inside; data NULL: as they come */
    struct mbk_tensor lengths;   /* I32 [rows]: so many of a row's tokens, counted from the left, are real; data NULL: all. What comes out
                                    for the others has no meaning: their labels are -100 */
    struct mbk_tensor users, user_rows; /* pairs: I32 [pairs]: indices in the catalogue; rows of what was learned, 0 for nobody known */
    struct mbk_tensor items, item_rows; /* I32 [(1 + negatives) · pairs]: the items taken, then the first negative of each, … */
    struct mbk_tensor adjust;    /* in-batch softmax: F32 [pairs, pairs], added to the logits */
    struct mbl_past *cache;     /* decoders: one row goes on where the cache ends, outputs are those of its last token alone; see
                                    generate.h. NULL otherwise */
    bool training;               /* keeps what backward needs; dropout is on */
    uint64_t seed, offset;       /* of dropout: the batch may use offsets from here to MBL_DROPOUT_STRIDE further */
};
#define MBL_DROPOUT_STRIDE (UINT64_C(1) << 32)

struct mbl_texts;

/* How a recommender learns: recommend.h. */
enum mbl_pair_loss { MBL_LOSS_MSE, MBL_LOSS_BPR, MBL_LOSS_SOFTMAX };
struct mbl_pairing {
    enum mbl_pair_loss loss;
    int64_t negatives;           /* drawn for each pair; 0 but for bpr */
    double temperature;          /* products are divided by it */
    bool log_q;                  /* softmax: logits less log Q */
    double id_dropout;           /* share of ids that training takes for unknown ones, so that features learn to stand alone */
};

/* Sees what goes into each layer that has a weight; for calibration. */
struct mbl_observer {
    int (*input)(struct mbl_observer *, struct mbk *, const char *weight, const struct mbk_tensor *x, struct mbl_error *);
};

struct mbl_model {
    struct mbk *k;
    struct mbl_arena arena;
    const struct mbl_architecture *architecture;
    void *state;                 /* the architecture's own, in `arena` */
    struct mbl_json *config;     /* what config.json will hold */
    struct mbl_schema schema;    /* of the data that it takes */
    enum mbl_problem problem;
    int64_t outputs;             /* numbers in a row of outputs: see mbl_problem_per_token */
    bool has_schema;             /* false where a model of tokens came without one: then `schema` has but the classes of the config */
    int64_t vocabulary;          /* models of tokens: ids are below it … */
    int64_t longest;             /* … and rows at most so long */
    int64_t text_types;          /* encoders: types of tokens are below it; 1: they make no difference */
    bool counts_positions;       /* … positions are counted from pad + 1 on, and the token `pad` is not counted: see mbl_count_positions */
    int32_t pad;
    int64_t cache_layers, cache_width; /* decoders: what a cache keeps of a token: see generate.h. 0: it cannot generate */
    bool quantized;              /* has weights that are no floats: int8 with scales, or as transformer_quantized.h has it */
    void *scratch;               /* device memory for the products of quantized weights, taken when it is needed */
    size_t scratch_bytes;
    enum mbk_type compute;       /* models of tokens: what products read, F32 or BF16 */
    enum mbk_type saved;         /* models of tokens: what float weights are written as, F32 or BF16 */
    struct mbl_parameter *parameters;
    size_t parameter_count, parameter_cap;
    void *copies;                /* device block of the parameters' copies, or NULL */
    void *values, *gradients;    /* device blocks that hold all of them, `block_bytes` each */
    size_t block_bytes;
    struct mbl_observer *observer; /* NULL: nobody looks */
    struct mbl_catalogue *catalogue; /* models of pairs: whom and what they know; the model's own. NULL before it was read */
    struct mbl_pairing pairing;
    struct mbl_texts *texts;     /* models of tokens: how they read texts (texts.h), kept in their folder; the model's own. NULL: it isn't
                                    known, the folder has no tokenizer */
};

enum mbl_takes { MBL_TAKES_FEATURES, MBL_TAKES_TOKENS, MBL_TAKES_PAIRS };

struct mbl_architecture {
    const char *kind;            /* "mlp": what a rule says */
    const char *model_type;      /* "mbuild-mlp": what config.json says; "bert" where the folder is Hugging Face's */
    const char *class_name;      /* "MbuildMlp": in config.json's architectures, with "ForClassification" or "ForRegression" behind */
    enum mbl_takes takes;        /* features, pairs: `reserve`; tokens: `reserve_tokens`, and the config is Hugging Face's and `dataset` */
    enum mbl_problem usual;      /* tokens, pairs: what it learns where neither rule nor data say */
    const char *const *fields;   /* its own keys, the same in rules and in config.json; ends with NULL */
    /* Reads and checks its fields in `config`, fills defaults in, puts them into m->config, and declares its parameters. Allocates nothing
     * on the device. */
    int (*configure)(struct mbl_model *m, const struct mbl_json *config, struct mbl_error *e);
    /* Makes room for batches of `rows`; with `training` also for what backward needs. May be called again with other sizes. */
    int (*reserve)(struct mbl_model *m, int64_t rows, bool training, struct mbl_error *e);
    int (*reserve_tokens)(struct mbl_model *m, int64_t rows, int64_t time, bool training, struct mbl_error *e);
    /* *outputs becomes a view of F32 [rows, m->outputs], or [rows · time, m->outputs] where mbl_problem_per_token, good until the next
     * call. */
    int (*forward)(struct mbl_model *m, const struct mbl_batch *b, struct mbk_tensor *outputs, struct mbl_error *e);
    /* After forward on the same batch with `training`: adds to the parameters' gradients. doutputs may be overwritten. */
    int (*backward)(struct mbl_model *m, const struct mbl_batch *b, const struct mbk_tensor *doutputs, struct mbl_error *e);
    void (*release)(struct mbl_model *m); /* device memory of its own */
};

/* By kind or by model_type; NULL if there is none. mbl_architecture_names: "mlp, cnn" for messages. */
MBL_EXPORT const struct mbl_architecture *mbl_architecture_find(const char *name);
MBL_EXPORT const char *mbl_architecture_names(struct mbl_arena *a);

/* Makes the config of a new model: `shape` is a rule's table, { kind = "mlp", hidden = … }. A field that its kind doesn't have is an error.
 */
MBL_EXPORT int mbl_model_config(const struct mbl_json *shape, const struct mbl_schema *schema, struct mbl_arena *a, struct mbl_json **out,
                                struct mbl_error *e);

/* From a config: everything is checked, parameters are declared, none has memory yet. `k` must outlive the model. */
MBL_EXPORT int mbl_model_create(struct mbk *k, const struct mbl_json *config, struct mbl_model **out, struct mbl_error *e);
MBL_EXPORT int mbl_model_allocate(struct mbl_model *m, struct mbl_error *e);           /* zeroed */
MBL_EXPORT int mbl_model_allocate_gradients(struct mbl_model *m, struct mbl_error *e);
MBL_EXPORT int mbl_model_initialize(struct mbl_model *m, uint64_t seed,
                                    struct mbl_error *e); /* starting weights, as PyTorch's layers have them */
MBL_EXPORT int mbl_model_initialize_missing(struct mbl_model *m, uint64_t seed, struct mbl_error *e); /* those marked `missing` alone */
MBL_EXPORT void mbl_model_free(struct mbl_model *m); /* NULL is fine */
/* From here on a model of tokens, whose weights were read or initialized, computes in bfloat16: see model_precision.c. `learns`: weights stay
 * float32 beside a copy; else those that products read become bfloat16 and take half the memory. */
MBL_EXPORT int mbl_model_narrow(struct mbl_model *m, bool learns, struct mbl_error *e);
/* The copies made anew, after something else than the optimizer changed the weights; where there are none, nothing. */
MBL_EXPORT int mbl_model_refresh(struct mbl_model *m, struct mbl_error *e);

/* A model's folder: config.json and model.safetensors. Loading believes neither. */
MBL_EXPORT int mbl_model_load(struct mbk *k, const char *folder, struct mbl_model **out, struct mbl_error *e);
/* The same on a stream of its own: on `device`, but int8 models of features always on the CPU. Both are the caller's to free, the model first; on
 * failure both are NULL. */
MBL_EXPORT int mbl_model_load_on(const char *device, int threads, const char *folder, struct mbk **k, struct mbl_model **out,
                                 struct mbl_error *e);
MBL_EXPORT int mbl_model_save(const struct mbl_model *m, const char *folder, struct mbl_error *e);
/* A model of tokens made ready to learn something else: its body's weights are the folder's, its config says `problem` and the labels of
 * `schema` (NULL: none; needed for classes and values). A head that the folder lacks, or has for another number of outputs, starts anew by
 * `seed`. */
MBL_EXPORT int mbl_model_load_for(struct mbk *k, const char *folder, enum mbl_problem problem, const struct mbl_schema *schema,
                                  uint64_t seed, struct mbl_model **out, struct mbl_error *e);
/* The two halves of loading; the JSON's strings need not outlive the call. */
MBL_EXPORT int mbl_model_read_weights(struct mbl_model *m, const struct mbl_safetensors *file, struct mbl_error *e);
/* Bytes of all files in the folder. */
MBL_EXPORT int mbl_model_size(const char *folder, int64_t *bytes, struct mbl_error *e);

/* Whether it is kept as something else than floats: value.type says as what, and `shape` then is the disk's, of bytes. */
MBL_EXPORT bool mbl_parameter_quantized(const struct mbl_parameter *p);
MBL_EXPORT struct mbl_parameter *mbl_model_find(const struct mbl_model *m, const char *name); /* NULL if absent */
/* Where m->counts_positions: the positions of a row of n tokens into `out`. Returns whether they differ from those without any `pad`. */
MBL_EXPORT bool mbl_count_positions(const struct mbl_model *m, const int32_t *ids, int64_t n, int32_t *out);
MBL_EXPORT int64_t mbl_model_parameter_count(const struct mbl_model *m);                       /* numbers, scales not counted */
MBL_EXPORT const char *mbl_problem_name(enum mbl_problem p);
/* What a batch's outputs and their gradient are: F32, but the logits of a whole vocabulary are as the model computes, while it trains. */
MBL_EXPORT enum mbk_type mbl_model_output_type(const struct mbl_model *m, bool training);
MBL_EXPORT bool mbl_problem_per_token(enum mbl_problem p); /* outputs are [rows · time, …], labels I32 [rows · time] */
/* What `architecture` has for it: reserve, or reserve_tokens with `time`. */
MBL_EXPORT int mbl_model_reserve(struct mbl_model *m, int64_t rows, int64_t time, bool training, struct mbl_error *e);

/* -- For architectures. */
/* Declares a parameter and returns its index. Its shape is the disk's; for height × width see struct mbl_parameter. */
size_t mbl_model_declare(struct mbl_model *m, const char *name, enum mbk_type type, int rank, const int64_t *shape);
/* A whole number, or a list of them, under a key of `config`; absent: `otherwise` or an empty list. Puts them into m->config. */
int mbl_config_int(struct mbl_model *m, const struct mbl_json *config, const char *key, int64_t least, int64_t most, int64_t otherwise,
                   int64_t *out, struct mbl_error *e);
int mbl_config_float(struct mbl_model *m, const struct mbl_json *config, const char *key, double least, double most, double otherwise,
                     double *out, struct mbl_error *e);
int mbl_config_list(struct mbl_model *m, const struct mbl_json *config, const char *key, int64_t least, int64_t most, int64_t **out,
                    size_t *count, struct mbl_error *e);
int mbl_config_activation(struct mbl_model *m, const struct mbl_json *config, enum mbk_activation *out, struct mbl_error *e);
/* Fills the error from the stream's own; returns -1. */
MBL_EXPORT int mbl_kernel_failed(struct mbk *k, const char *what, struct mbl_error *e);

#endif
