/* model_architectures.h: the list of what models there are, and what bounds them all. */
#ifndef MBL_MODEL_ARCHITECTURES_H
#define MBL_MODEL_ARCHITECTURES_H

#include "model.h"

#define MBL_WIDEST 65536          /* of a layer */
#define MBL_MOST_LAYERS 256
#define MBL_MOST_VALUES (INT64_C(1) << 33) /* parameters of a model */

extern const struct mbl_architecture mbl_mlp, mbl_cnn, mbl_bert, mbl_distilbert, mbl_roberta, mbl_gpt2, mbl_llama, mbl_mistral, mbl_qwen2,
    mbl_matrix_factorization, mbl_two_towers;

#endif
