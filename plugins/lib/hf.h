/* hf.h: models in Hugging Face's folders: what config.json says of labels and problem, and weights under any of the names they go by.
 *
 * The weights are model.safetensors, or shards that model.safetensors.index.json lists, or pytorch_model.bin (and its shards), which is
 * read without running any of its code. All is hostile until it was checked.
 */
#ifndef MBL_HF_H
#define MBL_HF_H

#include "model.h"

/* For mbl_model_create: takes `config` (which must lie in m->arena) as the model's own, sets problem, outputs, classes, and writes into it
 * what transformers reads: architectures, problem_type, id2label, label2id. Knows nothing of sizes. */
int mbl_hf_configure(struct mbl_model *m, struct mbl_json *config, struct mbl_error *e);

/* For mbl_model_config: a new model's config. `config` has the rule's fields already. */
int mbl_hf_config_new(const struct mbl_architecture *architecture, const struct mbl_schema *schema, struct mbl_arena *a,
                      struct mbl_json *config, struct mbl_error *e);

struct mbl_hf_weights {
    struct mbl_arena arena;
    struct mbl_tensor *tensors;
    size_t count, cap;
    struct mbl_hf_file *files;
    size_t file_count, file_cap;
};
int mbl_hf_open(const char *folder, struct mbl_hf_weights *out, struct mbl_error *e);
void mbl_hf_close(struct mbl_hf_weights *w); /* all zero is fine */

/* Reads the model's parameters from tensors with or without the body's prefix, also gamma and beta of old files, from any float type.
 * Allocates them if they aren't yet. `new_head`: a head that is missing or of another shape is left as it is, and so marked. */
int mbl_hf_read(struct mbl_model *m, const struct mbl_tensor *tensors, size_t count, bool new_head, struct mbl_error *e);

/* -- A PyTorch file (zip, since 1.6): its pickle is interpreted by a reader that knows tensors, dicts and plain values; whatever else it
 * asks for is an error that names it. */
struct mbl_torch_file {
    struct mbl_arena arena;
    struct mbl_tensor *tensors;     /* in the file's order; names and data lie in the arena and in `blocks` */
    size_t count, cap;
    void **blocks;
    size_t block_count, block_cap;
};
MBL_EXPORT int mbl_torch_open(const char *path, struct mbl_torch_file *out, struct mbl_error *e);
MBL_EXPORT int mbl_torch_parse(const void *data, size_t size, const char *name, struct mbl_torch_file *out, struct mbl_error *e);
MBL_EXPORT void mbl_torch_close(struct mbl_torch_file *f); /* all zero is fine */

#endif
