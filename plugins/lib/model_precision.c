/* model_precision.c: what a model of tokens computes in; see model.h.
 *
 * As under PyTorch's autocast: products read bfloat16 and sum in float32; norms, softmax, losses and the residual stream are float32.
 * While it learns the weights are float32, and each that a product reads has a copy in bfloat16, which the optimizer writes with it: it is
 * rounded once a step, not once a product. Where it but answers there is no float32 to keep.
 */
#include "model.h"

static size_t aligned(size_t bytes) {
    return (bytes + 255) & ~(size_t)255;
}

static struct mbk_tensor narrow_of(const struct mbl_parameter *p) {
    struct mbk_tensor t = p->value;
    if (p->multiplied) t.type = MBK_BF16;
    return t;
}

static int check(const struct mbl_model *m, struct mbl_error *e) {
    if (m->architecture->takes != MBL_TAKES_TOKENS)
        return mbl_error_set(e, "precision: bfloat16 is for models of tokens; %s computes in float32",
                             m->architecture->kind);
    if (m->quantized) return mbl_error_set(e, "precision: bfloat16 is for models with weights of floats, and this one is quantized");
    return 0;
}

/* Copies beside the weights. */
static int add_copies(struct mbl_model *m, struct mbl_error *e) {
    size_t bytes = 0;
    for (size_t i = 0; i < m->parameter_count; i++) {
        const struct mbk_tensor t = narrow_of(&m->parameters[i]);
        if (m->parameters[i].multiplied) bytes += aligned(mbk_bytes(&t));
    }
    m->copies = mbk_alloc(m->k, bytes);
    if (!m->copies) return mbl_error_set(e, "no memory for the weights in bfloat16 (%zu bytes)", bytes);
    char *next = m->copies;
    for (size_t i = 0; i < m->parameter_count; i++) {
        struct mbl_parameter *p = &m->parameters[i];
        if (!p->multiplied) continue;
        p->copy = narrow_of(p);
        p->copy.data = next;
        next += aligned(mbk_bytes(&p->copy));
    }
    return mbl_model_refresh(m, e);
}

/* A new block with all parameters, each of the type that it is to have. */
static int replace_values(struct mbl_model *m, struct mbl_error *e) {
    size_t bytes = 0;
    for (size_t i = 0; i < m->parameter_count; i++) {
        const struct mbk_tensor t = narrow_of(&m->parameters[i]);
        bytes += aligned(mbk_bytes(&t));
    }
    char *block = mbk_alloc(m->k, bytes), *next = block;
    if (!block) return mbl_error_set(e, "no memory for the weights in bfloat16 (%zu bytes)", bytes);
    for (size_t i = 0; i < m->parameter_count; i++) {
        struct mbk_tensor t = narrow_of(&m->parameters[i]);
        t.data = next;
        next += aligned(mbk_bytes(&t));
        if (mbk_cast(m->k, &m->parameters[i].value, &t)) {
            mbk_free(m->k, block);
            return mbl_kernel_failed(m->k, m->parameters[i].name, e);
        }
    }
    next = block;
    for (size_t i = 0; i < m->parameter_count; i++) {
        struct mbk_tensor *value = &m->parameters[i].value;
        *value = narrow_of(&m->parameters[i]);
        value->data = next;
        next += aligned(mbk_bytes(value));
    }
    mbk_free(m->k, m->values);
    m->values = block;
    m->block_bytes = bytes;
    return 0;
}

int mbl_model_narrow(struct mbl_model *m, bool learns, struct mbl_error *e) {
    if (check(m, e) || (learns ? add_copies(m, e) : replace_values(m, e))) return -1;
    m->compute = MBK_BF16;
    return 0;
}

int mbl_model_refresh(struct mbl_model *m, struct mbl_error *e) {
    for (size_t i = 0; i < m->parameter_count; i++) {
        const struct mbl_parameter *p = &m->parameters[i];
        if (p->copy.data && mbk_cast(m->k, &p->value, &p->copy)) return mbl_kernel_failed(m->k, p->name, e);
    }
    return 0;
}
