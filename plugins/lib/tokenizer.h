/* tokenizer.h: text to the numbers that language models read, and back; equal to Hugging Face's `tokenizers`, id for id and offset for
 * offset.
 *
 * A tokenizer is read from a model's folder (tokenizer.json, or vocab.txt, or vocab.json with merges.txt) or trained from text. It never
 * changes afterwards, so any number of threads may use it at once; what a thread needs to itself (results, scratch, a cache of words)
 * lies in its own struct mbl_encoding. What a file asks for and is not known here is refused by name: ids are right or there are none.
 */
#ifndef MBL_TOKENIZER_H
#define MBL_TOKENIZER_H

#include "memory.h"
#include <stdbool.h>

#define MBL_TOKENIZER_TEXT_MOST ((size_t)256 << 20) /* bytes of one text */

struct mbl_tokenizer;

/* `path` is a folder or one file of it. In a folder tokenizer.json goes before vocab.txt (BERT's WordPiece), this before vocab.json and
 * merges.txt (GPT-2's byte-level BPE); tokenizer_config.json and special_tokens_map.json beside them say lower-casing, special tokens and
 * the longest length. Errors name the file and the place in it. Free the result with mbl_tokenizer_free. */
MBL_EXPORT int mbl_tokenizer_open(const char *path, struct mbl_tokenizer **out, struct mbl_error *e);

/* The text of a tokenizer.json; `name` is what messages call it. */
MBL_EXPORT int mbl_tokenizer_parse(const char *text, size_t length, const char *name, struct mbl_tokenizer **out, struct mbl_error *e);

/* Writes tokenizer.json, tokenizer_config.json, special_tokens_map.json and vocab.txt or vocab.json and merges.txt into a folder, which is
 * made if needed: `transformers` and mbl_tokenizer_open read from it the same tokenizer. Equal tokenizers give equal bytes. */
MBL_EXPORT int mbl_tokenizer_save(const struct mbl_tokenizer *t, const char *folder, struct mbl_error *e);

MBL_EXPORT void mbl_tokenizer_free(struct mbl_tokenizer *t); /* NULL is fine */

/* -- The vocabulary. */

struct mbl_special_ids {
    int32_t unk, cls, sep, pad, mask, bos, eos; /* -1: it has none */
};

MBL_EXPORT const char *mbl_tokenizer_model(const struct mbl_tokenizer *t);      /* "WordPiece" or "BPE" */
/* the highest id + 1, added tokens included: rows of an embedding */
MBL_EXPORT size_t mbl_tokenizer_size(const struct mbl_tokenizer *t);
/* of a token as the vocabulary writes it; -1 if it isn't there */
MBL_EXPORT int32_t mbl_tokenizer_id(const struct mbl_tokenizer *t, const char *token);
MBL_EXPORT const char *mbl_tokenizer_token(const struct mbl_tokenizer *t, int32_t id); /* NUL-terminated; NULL if no token has this id */
MBL_EXPORT bool mbl_tokenizer_is_special(const struct mbl_tokenizer *t, int32_t id);
MBL_EXPORT const struct mbl_special_ids *mbl_tokenizer_special(const struct mbl_tokenizer *t);
/* tokens that the model takes (model_max_length); 0 if it isn't said */
MBL_EXPORT size_t mbl_tokenizer_max_length(const struct mbl_tokenizer *t);
/* tokens that encoding adds around a text or a pair */
MBL_EXPORT size_t mbl_tokenizer_special_count(const struct mbl_tokenizer *t, bool pair);

/* -- Encoding. */

struct mbl_text {
    const char *data; /* UTF-8, may hold NUL */
    size_t length;    /* bytes */
};

enum mbl_truncation { MBL_TRUNCATE_LONGEST_FIRST, MBL_TRUNCATE_ONLY_FIRST, MBL_TRUNCATE_ONLY_SECOND };

struct mbl_encode_options {
    size_t max_length;            /* tokens at most, special ones included; 0: any number */
    enum mbl_truncation truncation;
    bool truncate_left;           /* drop tokens at the beginning rather than at the end */
    bool no_special;              /* leave out [CLS], [SEP] and the like */
    bool offsets;                 /* fill in offsets; costs time */
};

/* Tokens of many texts, one behind the other. All zero is an empty one; use it again and again, from one thread at a time, for one
 * tokenizer or for several. */
struct mbl_encoding {
    int32_t *ids;                 /* [count] */
    uint8_t *types;               /* [count] token_type_ids: 0, or 1 for the second text */
    uint32_t (*offsets)[2];       /* [count] bytes of its text from which it came, begin and end; 0, 0 of special tokens; NULL unless
                                   * asked for */
    int32_t *words;               /* [count] the word of its row that it is of, from 0; -1 of special tokens; NULL unless words were
                                   * encoded */
    size_t count;
    size_t *starts;               /* [texts + 1]: text i has the tokens starts[i] … starts[i + 1] - 1 */
    size_t texts;
    struct mbl_encode_work *work; /* private */
    size_t id_cap, type_cap, offset_cap, word_cap, start_cap;
};

/* Encodes `texts[0] … texts[count - 1]`, each with pairs[i] behind it unless `pairs` is NULL; replaces what `out` held. `o` may be NULL:
 * special tokens, no limit, no offsets. Fails on text that is not UTF-8 (the error says which text and the offset), and if a pair is
 * to be cut and can't be cut far enough. */
MBL_EXPORT int mbl_tokenizer_encode(const struct mbl_tokenizer *t, const struct mbl_text *texts, const struct mbl_text *pairs, size_t count,
                                    const struct mbl_encode_options *o, struct mbl_encoding *out, struct mbl_error *e);

/* The same of rows that were split into words before: row i is words[rows[i]] … words[rows[i + 1] - 1], each of which is encoded by itself
 * (is_split_into_words). Fills in `words`; there are no offsets and no pairs. */
MBL_EXPORT int mbl_tokenizer_encode_words(const struct mbl_tokenizer *t, const struct mbl_text *words, const int64_t *rows, size_t count,
                                          const struct mbl_encode_options *o, struct mbl_encoding *out, struct mbl_error *e);

MBL_EXPORT size_t mbl_encoding_width(const struct mbl_encoding *x); /* tokens of the longest text */

/* Rows of equal length out of an encoding: ids [texts, width], types and mask likewise (either may be NULL). Shorter ones are filled with
 * `pad` (type 0, mask 0) behind, longer ones are cut. */
MBL_EXPORT void mbl_encoding_pad(const struct mbl_encoding *x, size_t width, int32_t pad, int32_t *ids, int32_t *types, int32_t *mask);

MBL_EXPORT void mbl_encoding_free(struct mbl_encoding *x);

/* Appends the text that tokens stand for. Fails if an id has no token. */
MBL_EXPORT int mbl_tokenizer_decode(const struct mbl_tokenizer *t, const int32_t *ids, size_t count, bool skip_special, struct mbl_buf *out,
                                    struct mbl_error *e);

/* -- Training. */

struct mbl_tokenizer_training {
    const char *model;            /* "bpe" (byte-level, as GPT-2's) or "wordpiece" (as BERT's) */
    size_t vocabulary;            /* tokens at most, special ones included: at least 256 and these for bpe */
    size_t least_count;           /* how often a pair must stand in the text to be merged; 0 is as 2 */
    bool lowercase;               /* wordpiece: and strip accents, as bert-*-uncased */
    size_t max_length;            /* what the model takes; 0: unsaid */
};

/* Learns a vocabulary. The same texts give the same tokenizer, in whatever order they come. bpe has <|endoftext|> as its special token
 * (unk, bos, eos and pad), wordpiece has [PAD] [UNK] [CLS] [SEP] [MASK], ids 0 to 4. */
MBL_EXPORT int mbl_tokenizer_train(const struct mbl_tokenizer_training *o, const struct mbl_text *texts, size_t count,
                                   struct mbl_tokenizer **out, struct mbl_error *e);

#endif
