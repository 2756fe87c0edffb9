/* tokenizer_steps.h: reading the steps of tokenizer.json, one file for each side of the model: tokenizer_read_text.c what comes before it
 * (normalizers, pre-tokenizers), tokenizer_read_tokens.c what comes behind (post-processors, decoders). tokenizer_read.c has the whole. */
#ifndef MBL_TOKENIZER_STEPS_H
#define MBL_TOKENIZER_STEPS_H

#include "tokenizer_private.h"

#define MBL_COUNT(array) (sizeof(array) / sizeof *(array))
#define MBL_STEPS_MOST 64

struct mbl_step_reader {
    struct mbl_tokenizer *t;
    const char *name;            /* of the file, for messages */
    struct mbl_error *e;
};

/* One kind of step: `read` gets the step's table and its place in the file. */
struct mbl_step_kind {
    const char *name;
    int (*read)(struct mbl_step_reader *r, const struct mbl_json *v, const char *place);
};

/* The error that something asked for is not known; -1. */
int mbl_step_refuse(struct mbl_step_reader *r, const char *place, const char *what, const char *found);
/* The step v, if it isn't null, by its type; each of the list v[key]. */
int mbl_step_read(struct mbl_step_reader *r, const struct mbl_json *v, const char *place, const struct mbl_step_kind *kinds, size_t count);
int mbl_step_read_all(struct mbl_step_reader *r, const struct mbl_json *v, const char *place, const char *key,
                      const struct mbl_step_kind *kinds, size_t count);
/* v[key], and v.pattern that is a plain string; NULL: it isn't there, and the error says so. */
const char *mbl_step_text(struct mbl_step_reader *r, const struct mbl_json *v, const char *key, const char *place, size_t *length);
const char *mbl_step_pattern(struct mbl_step_reader *r, const struct mbl_json *v, const char *place, size_t *length);

int mbl_read_normalizer(struct mbl_step_reader *r, const struct mbl_json *v);
int mbl_read_splitter(struct mbl_step_reader *r, const struct mbl_json *v);
void mbl_default_frames(struct mbl_step_reader *r); /* those without any special tokens, until a post-processor says more */
int mbl_read_processor(struct mbl_step_reader *r, const struct mbl_json *v);
int mbl_read_decoder(struct mbl_step_reader *r, const struct mbl_json *v);

#endif
