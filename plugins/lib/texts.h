/* texts.h: how a model of tokens reads texts: its tokenizer, which columns, how long a row may be, how a stream is joined.
 *
 * It belongs to the model as the scaling belongs to a model of features: it is kept in the model's folder (the tokenizer's files, and
 * texts.json beside them), so that whoever has the folder reads texts as the training did.
 */
#ifndef MBL_TEXTS_H
#define MBL_TEXTS_H

#include "dataset.h"
#include "tokenizer.h"

#define MBL_TEXT_COLUMNS 2

struct mbl_texts {
    struct mbl_tokenizer *tokenizer;
    const char *columns[MBL_TEXT_COLUMNS]; /* a text, or a pair; NULL: not said yet, mbl_texts_columns finds them */
    int64_t length;              /* tokens of a row at most, special ones included; 0: as many as the model takes */
    bool every_part;             /* classes of words: each token of a word has the word's tag; else the first alone has it */
    const char *join;            /* what stands between two texts of a stream; NULL: the tokenizer's end of text */
    struct mbl_arena arena;
};

/* Out of a model's folder. NULL, and no error, if it has no tokenizer; texts.json need not be there. */
MBL_EXPORT int mbl_texts_open(const char *folder, struct mbl_texts **out, struct mbl_error *e);
MBL_EXPORT int mbl_texts_save(const struct mbl_texts *t, const char *folder, struct mbl_error *e);
MBL_EXPORT void mbl_texts_free(struct mbl_texts *t); /* NULL is fine */
MBL_EXPORT struct mbl_texts *mbl_texts_new(void);

/* The columns in `d`, one or two: those that t->columns names, or else all text columns of the data, which t then names. */
MBL_EXPORT int mbl_texts_columns(struct mbl_texts *t, const struct mbl_dataset *d, const struct mbl_text_column *out[MBL_TEXT_COLUMNS],
                                 struct mbl_error *e);

/* Learns a tokenizer from the texts of a part, or its words; `o` says how. */
MBL_EXPORT int mbl_texts_learn(struct mbl_texts *t, const struct mbl_dataset *d, const struct mbl_tokenizer_training *o,
                               struct mbl_error *e);

#endif
