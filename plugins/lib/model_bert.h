/* model_bert.h: in what the encoders differ whose layers are BERT's: the names of their tensors and of their sizes, and a few habits. */
#ifndef MBL_MODEL_BERT_H
#define MBL_MODEL_BERT_H

#include "model.h"

struct mbl_bert_layout {
    /* config.json: keys, and what holds where they are absent */
    const char *width, *layers, *heads, *inner, *act, *dropout, *attention_dropout, *head_dropout;
    int64_t vocabulary, usual_layers;
    const char *eps;             /* NULL: 1e-12 always */
    double own_head_dropout;     /* below 0: that of `dropout` */
    /* model.safetensors: `body` stands before all of the body's, `layer` and a number before those of a layer */
    const char *body, *layer, *query, *key, *value, *join, *attention_norm, *widen, *narrow, *norm;
    const char *transform, *transform_norm, *decoder_bias;  /* masked tokens */
    const char *pool, *classifier, *token_classifier;       /* rows, and words */
    const char *pooler;          /* what the body has for itself; NULL: nothing */
    /* habits */
    enum mbk_activation pooling; /* of a row's first token */
    bool pool_in_body;           /* the tensor `pool` is the body's */
    bool types;                  /* tokens have types */
    bool drops_behind_attention; /* dropout also where attention joins the stream */
    bool drops_before_pool;      /* and in front of `pool` */
    bool gelu_transform;         /* whatever `act` says */
    bool counts_positions;       /* from the pad token's id + 1, and pad tokens are not counted */
};

/* By a model's architecture: bert, distilbert or roberta. */
const struct mbl_bert_layout *mbl_bert_layout_of(const struct mbl_architecture *a);

#endif
