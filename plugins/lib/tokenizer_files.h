/* tokenizer_files.h: tokenizer.json as a tree, built of a vocabulary. Private to plugins/lib. */
#ifndef MBL_TOKENIZER_FILES_H
#define MBL_TOKENIZER_FILES_H

#include "tokenizer_private.h"

/* A table with room for so many tokens; adding to it doesn't look for twins, and doesn't copy the token. */
struct mbl_json *mbl_token_table(struct mbl_arena *a, size_t count);
void mbl_token_table_add(struct mbl_arena *a, struct mbl_json *table, const char *token, int64_t id);

/* What BertTokenizer makes of vocab.txt, and GPT2Tokenizer or RobertaTokenizer of vocab.json and merges.txt. `config` is
 * tokenizer_config.json, or
 * NULL; fails if a special token that is needed isn't in the vocabulary. */
int mbl_wordpiece_json(struct mbl_arena *a, struct mbl_json *vocab, const struct mbl_json *config, const char *name, struct mbl_json **out,
                       struct mbl_error *e);
int mbl_bpe_json(struct mbl_arena *a, struct mbl_json *vocab, struct mbl_json *merges, const struct mbl_json *config, const char *name,
                 struct mbl_json **out, struct mbl_error *e);

#endif
