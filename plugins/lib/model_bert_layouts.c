/* model_bert_layouts.c: BERT (Devlin et al. 2019), DistilBERT (Sanh et al. 2019) and RoBERTa (Liu et al. 2019) as Hugging Face's classes
 * have them; see model_bert.h.
 *
 * DistilBERT has no types and no pooler; rows are classified by a layer with ReLU. RoBERTa's positions begin behind the pad token's id, and
 * its heads are named apart.
 */
#include "model_bert.h"
#include "model_architectures.h"

static const struct mbl_bert_layout bert = {
    .width = "hidden_size", .layers = "num_hidden_layers", .heads = "num_attention_heads", .inner = "intermediate_size", .act = "hidden_act",
    .dropout = "hidden_dropout_prob", .attention_dropout = "attention_probs_dropout_prob", .head_dropout = "classifier_dropout",
    .vocabulary = 30522, .usual_layers = 12, .eps = "layer_norm_eps", .own_head_dropout = -1,
    .body = "bert.", .layer = "encoder.layer.", .query = "attention.self.query", .key = "attention.self.key",
    .value = "attention.self.value", .join = "attention.output.dense", .attention_norm = "attention.output.LayerNorm",
    .widen = "intermediate.dense", .narrow = "output.dense", .norm = "output.LayerNorm",
    .transform = "cls.predictions.transform.dense", .transform_norm = "cls.predictions.transform.LayerNorm",
    .decoder_bias = "cls.predictions.bias", .pool = "pooler.dense", .classifier = "classifier", .token_classifier = "classifier",
    .pooler = "pooler.dense", .pooling = MBK_TANH, .pool_in_body = true, .types = true, .drops_behind_attention = true};

static const struct mbl_bert_layout distilbert = {
    .width = "dim", .layers = "n_layers", .heads = "n_heads", .inner = "hidden_dim", .act = "activation", .dropout = "dropout",
    .attention_dropout = "attention_dropout", .head_dropout = "seq_classif_dropout", .vocabulary = 30522, .usual_layers = 6,
    .own_head_dropout = 0.2, .body = "distilbert.", .layer = "transformer.layer.", .query = "attention.q_lin", .key = "attention.k_lin",
    .value = "attention.v_lin", .join = "attention.out_lin", .attention_norm = "sa_layer_norm", .widen = "ffn.lin1", .narrow = "ffn.lin2",
    .norm = "output_layer_norm", .transform = "vocab_transform", .transform_norm = "vocab_layer_norm",
    .decoder_bias = "vocab_projector.bias", .pool = "pre_classifier", .classifier = "classifier", .token_classifier = "classifier",
    .pooling = MBK_RELU};

static const struct mbl_bert_layout roberta = {
    .width = "hidden_size", .layers = "num_hidden_layers", .heads = "num_attention_heads", .inner = "intermediate_size", .act = "hidden_act",
    .dropout = "hidden_dropout_prob", .attention_dropout = "attention_probs_dropout_prob", .head_dropout = "classifier_dropout",
    .vocabulary = 50265, .usual_layers = 12, .eps = "layer_norm_eps", .own_head_dropout = -1,
    .body = "roberta.", .layer = "encoder.layer.", .query = "attention.self.query", .key = "attention.self.key",
    .value = "attention.self.value", .join = "attention.output.dense", .attention_norm = "attention.output.LayerNorm",
    .widen = "intermediate.dense", .narrow = "output.dense", .norm = "output.LayerNorm", .transform = "lm_head.dense",
    .transform_norm = "lm_head.layer_norm", .decoder_bias = "lm_head.bias", .pool = "classifier.dense", .classifier = "classifier.out_proj",
    .token_classifier = "classifier", .pooler = "pooler.dense", .pooling = MBK_TANH, .types = true, .drops_behind_attention = true,
    .drops_before_pool = true, .gelu_transform = true, .counts_positions = true};

const struct mbl_bert_layout *mbl_bert_layout_of(const struct mbl_architecture *a) {
    return a == &mbl_distilbert ? &distilbert : a == &mbl_roberta ? &roberta : &bert;
}
