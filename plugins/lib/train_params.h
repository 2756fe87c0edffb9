/* train_params.h: the parameters that the steps `train`, `finetune` and `distill` share, as rows of their tables. train_options.c
 * reads them.
 *
 * Where a default depends on another parameter, the row has none and its help says what holds.
 */
#ifndef MBL_TRAIN_PARAMS_H
#define MBL_TRAIN_PARAMS_H

#include "precision.h"

static const char *const mbl_model_kinds[] = {"mlp", "cnn", "bert", "distilbert", "roberta", "gpt2", "llama", "mistral", "qwen2",
                                              "matrix_factorization", "two_towers", NULL};
static const char *const mbl_pair_losses[] = {"mse", "bpr", "softmax", NULL};
static const char *const mbl_activations[] = {"relu", "gelu", "gelu_tanh", "silu", "tanh", "sigmoid", NULL};
static const char *const mbl_optimizers[] = {"sgd", "adam", "adamw", NULL};
static const char *const mbl_schedules[] = {"constant", "cosine", "linear", "step", NULL};
static const char *const mbl_watchables[] = {"val_loss", "val_accuracy", "val_r2", "val_ndcg", NULL};
static const char *const mbl_tokenizer_kinds[] = {"bpe", "wordpiece", NULL};
static const char *const mbl_token_problems[] = {"single_label_classification", "regression", "next_token", "masked_token",
                                                 "token_classification", NULL};
static const char *const mbl_tagged_parts[] = {"first", "all", NULL};
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
    /* Models of tokens, by the names that their config.json has. */
    {.name = "problem", .type = MB_ENUM, .choices = mbl_token_problems,
     .help = "models of tokens: what to learn; by the data's label, or without one masked_token (bert) or next_token, if not said"},
    {.name = "vocab_size", .type = MB_INT, .least = 1, .most = 2147483647, .unit = "tokens", .help = "the tokenizer's if not said"},
    {.name = "num_hidden_layers", .type = MB_INT, .least = 0, .most = 256, .help = "bert, llama: layers"},
    {.name = "num_attention_heads", .type = MB_INT, .least = 1, .most = 65536, .help = "bert, llama: heads of attention"},
    {.name = "num_key_value_heads", .type = MB_INT, .least = 1, .most = 65536, .help = "llama: heads of keys, each for several of queries"},
    {.name = "hidden_size", .type = MB_INT, .least = 1, .most = 65536, .help = "bert, llama: width of a token"},
    {.name = "intermediate_size", .type = MB_INT, .least = 1, .most = 65536, .help = "bert, llama: width between a layer's two products"},
    {.name = "max_position_embeddings", .type = MB_INT, .least = 1, .most = 2147483647, .unit = "tokens",
     .help = "bert, llama: longest row"},
    {.name = "hidden_act", .type = MB_STRING, .help = "bert, llama: activation"},
    {.name = "hidden_dropout_prob", .type = MB_FLOAT, .least = 0, .most = 0.95, .help = "bert: of values"},
    {.name = "attention_probs_dropout_prob", .type = MB_FLOAT, .least = 0, .most = 0.95, .help = "bert: of what is looked at"},
    {.name = "classifier_dropout", .type = MB_FLOAT, .least = 0, .most = 0.95, .help = "bert: before the head"},
    {.name = "type_vocab_size", .type = MB_INT, .least = 1, .most = 65536, .help = "bert: sorts of text in a row"},
    {.name = "layer_norm_eps", .type = MB_FLOAT, .least = 0, .most = 1, .help = "bert: keeps the norms finite"},
    {.name = "initializer_range", .type = MB_FLOAT, .least = 0, .most = 10, .help = "models of tokens: deviation of starting weights"},
    {.name = "dim", .type = MB_INT, .least = 1, .most = 65536, .help = "distilbert: width of a token"},
    {.name = "hidden_dim", .type = MB_INT, .least = 1, .most = 65536, .help = "distilbert: width between a layer's two products"},
    {.name = "n_layers", .type = MB_INT, .least = 0, .most = 256, .help = "distilbert: layers"},
    {.name = "n_heads", .type = MB_INT, .least = 1, .most = 65536, .help = "distilbert: heads of attention"},
    {.name = "seq_classif_dropout", .type = MB_FLOAT, .least = 0, .most = 0.95, .help = "distilbert: before the head"},
    {.name = "n_layer", .type = MB_INT, .least = 0, .most = 256, .help = "gpt2: layers"},
    {.name = "n_head", .type = MB_INT, .least = 1, .most = 65536, .help = "gpt2: heads of attention"},
    {.name = "n_embd", .type = MB_INT, .least = 1, .most = 65536, .help = "gpt2: width of a token"},
    {.name = "n_inner", .type = MB_INT, .least = 1, .most = 65536, 
     .help = "gpt2: width between a layer's two products; 4 n_embd if not said"},
    {.name = "n_positions", .type = MB_INT, .least = 1, .most = 2147483647, .unit = "tokens", .help = "gpt2: longest row"},
    {.name = "activation_function", .type = MB_STRING, .help = "gpt2: activation"},
    {.name = "resid_pdrop", .type = MB_FLOAT, .least = 0, .most = 0.95, .help = "gpt2: dropout of values"},
    {.name = "embd_pdrop", .type = MB_FLOAT, .least = 0, .most = 0.95, .help = "gpt2: dropout of embeddings"},
    {.name = "attn_pdrop", .type = MB_FLOAT, .least = 0, .most = 0.95, .help = "gpt2: dropout of what is looked at"},
    {.name = "layer_norm_epsilon", .type = MB_FLOAT, .least = 0, .most = 1, .help = "gpt2: keeps the norms finite"},
    {.name = "attention_dropout", .type = MB_FLOAT, .least = 0, .most = 0.95, .help = "llama: dropout of what is looked at"},
    {.name = "head_dim", .type = MB_INT, .least = 1, .most = 65536, .help = "llama: width of a head; hidden_size by heads if not said"},
    {.name = "rms_norm_eps", .type = MB_FLOAT, .least = 0, .most = 1, .help = "llama: keeps the norms finite"},
    {.name = "rope_theta", .type = MB_FLOAT, .least = 1, .most = 1e12, .help = "llama: base of the rotary positions"},
    /* Recommenders. */
    {.name = "factors", .type = MB_INT, .least = 1, .most = 65536,
     .help = "recommenders: width of a user's and an item's vector; 64 if not said"},
    {.name = "loss", .type = MB_ENUM, .choices = mbl_pair_losses,
     .help = "recommenders: mse of ratings, bpr or softmax of what was taken; matrix_factorization: by the data; two_towers: softmax"},
    {.name = "bias", .type = MB_BOOL, .help = "matrix_factorization: items (and users, of ratings) have a bias; true if not said"},
    {.name = "negatives", .type = MB_INT, .least = 1, .most = 1000, .help = "bpr: items drawn for each that was taken; 1 if not said"},
    {.name = "temperature", .type = MB_FLOAT, .least = 1e-4, .most = 1e4,
     .help = "bpr, softmax: scores are divided by it; matrix_factorization 1, two_towers 0.1 if not said"},
    {.name = "log_q", .type = MB_BOOL, .help = "softmax: scores less the log of how frequent the item is; true if not said"},
    {.name = "embedding", .type = MB_INT, .least = 1, .most = 65536,
     .help = "two_towers: width of what is learned of an id and of each category, before the layers; 64 if not said"},
    {.name = "normalize", .type = MB_BOOL, .help = "two_towers: vectors have length 1; true if not said"},
    {.name = "id_dropout", .type = MB_FLOAT, .least = 0, .most = 0.95,
     .help = "two_towers: share of ids that training takes for unknown, where there are features; 0.1 if not said"},
    {.name = "deviation", .type = MB_FLOAT, .least = 1e-6, .most = 10,
     .help = "matrix_factorization: of starting vectors; 0.1 if not said"},
    {.name = "tie_word_embeddings", .type = MB_BOOL, .help = "llama: the head's weights are the embedding's"},
    {0}};

static const struct mb_param mbl_tokenizer_params[] = {
    {.name = "kind", .type = MB_ENUM, .choices = mbl_tokenizer_kinds,
     .help = "bpe (bytes, as GPT-2) or wordpiece (as BERT); by the model's kind if not said"},
    {.name = "vocabulary", .type = MB_INT, .deflt = "8000", .least = 8, .most = 1e6, .unit = "tokens", .help = "tokens at most"},
    {.name = "least_count", .type = MB_INT, .deflt = "2", .least = 1, .most = 1e9, .help = "how often a pair must stand in the text"},
    {.name = "lowercase", .type = MB_BOOL, .deflt = "true", .help = "wordpiece: lower case, no accents"},
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

#define MBL_MODEL_PARAM                                                                                                                   \
    {.name = "model", .type = MB_TABLE, .flags = MB_REQUIRED, .fields = mbl_model_params,                                                 \
     .help = "what to train: mlp { … }, cnn { … }, encoder { … }, decoder { … }, matrix_factorization { … }, two_towers { … }"}

#define MBL_TOKENIZER_PARAM                                                                                                               \
    {.name = "tokenizer", .type = MB_TABLE, .deflt = "{}", .fields = mbl_tokenizer_params,                                                \
     .help = "models of tokens: how to learn a tokenizer from the training part, where no tokenizer is given"}

#define MBL_TRAIN_PARAMS                                                                                                                  \
    {.name = "optimizer", .type = MB_TABLE, .deflt = "{}", .fields = mbl_optimizer_params,                                                \
     .help = "sgd { … }, adam { … } or adamw { … }"},                                                                                     \
    {.name = "schedule", .type = MB_TABLE, .deflt = "{}", .fields = mbl_schedule_params, .help = "of the learning rate"},                 \
    {.name = "epochs", .type = MB_INT, .deflt = "30", .least = 1, .most = 1e6, .unit = "epochs", .help = "how often each row is seen"},   \
    {.name = "batch", .type = MB_INT, .deflt = "64", .least = 1, .most = 1e7, .unit = "rows", .help = "how many rows make one step"},     \
    {.name = "accumulate", .type = MB_INT, .deflt = "1", .least = 1, .most = 1e6,                                                         \
     .help = "a batch goes through the model in so many pieces, to take less memory"},                                                    \
    MBL_PRECISION_PARAM,                                                                                                                  \
    {.name = "save_as", .type = MB_ENUM, .choices = mbl_precisions, .deflt = "\"float32\"",                                               \
     .help = "models of tokens: what the weights are in the model's folder"},                                                             \
    {.name = "text", .type = MB_LIST, .element = MB_STRING, .deflt = "[]",                                                                \
     .help = "models of tokens: the column to read, or two for a pair; all columns of text if not said"},                                 \
    {.name = "max_length", .type = MB_INT, .least = 1, .most = 1048576, .unit = "tokens",                                                 \
     .help = "models of tokens: longer rows are cut, streams are cut into rows so long; what the model takes if not said"},               \
    {.name = "join", .type = MB_STRING,                                                                                                   \
     .help = "language models: what stands between two texts of the stream; the tokenizer's end of text if not said"},                    \
    {.name = "subwords", .type = MB_ENUM, .choices = mbl_tagged_parts,                                                                    \
     .help = "classes of words: which tokens of a word learn its tag, the first alone or all; the first if not said"},                    \
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
    {.name = "model", .flags = MB_OUTPUT | MB_FOLDER, .kind = "model", .help = "config.json, model.safetensors, tokenizer files"},        \
    {.name = "log", .flags = MB_OUTPUT | MB_OPTIONAL, .kind = "log", .help = "a line of JSON for each epoch"}

/* Folder or file, so it must be a role that takes both. */
#define MBL_TOKENIZER_ROLE                                                                                                                \
    {.name = "tokenizer", .flags = MB_INPUT | MB_OPTIONAL | MB_MANY,                                                                      \
     .help = "models of tokens: tokenizer.json, vocab.txt, or a folder that has such files"}

#endif
