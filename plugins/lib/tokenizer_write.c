/* tokenizer_write.c: a tokenizer's files, as `transformers` reads them: tokenizer.json with all of it, tokenizer_config.json and
 * special_tokens_map.json
 * with its special tokens and longest length, and the vocabulary as older programs expect it.
 */
#include "files.h"
#include "tokenizer_private.h"

#include <stdlib.h>
#include <string.h>

static int save(const char *folder, const char *file, const struct mbl_json *v, struct mbl_arena *a, struct mbl_error *e) {
    return mbl_json_save(mbl_path_join(a, folder, file), v, e);
}

/* vocab.txt has a line for each id; it can't tell of gaps, or of tokens with line ends. */
static int save_vocab_txt(const struct mbl_tokenizer *t, const char *folder, struct mbl_arena *a, struct mbl_error *e) {
    struct mbl_buf text = {0};
    for (size_t id = 0; id < t->vocabulary.count; id++) {
        const char *token = id < t->size ? t->tokens[id] : NULL;
        if (!token || strpbrk(token, "\r\n")) {
            mbl_buf_free(&text);
            return 0;
        }
        mbl_buf_adds(&text, token);
        mbl_buf_addc(&text, '\n');
    }
    int failed = mbl_file_write(mbl_path_join(a, folder, "vocab.txt"), text.data, text.len, e);
    mbl_buf_free(&text);
    return failed;
}

/* merges.txt parts tokens by spaces and ends them by line ends; where a token has these it isn't written. */
static int save_merges_txt(const struct mbl_tokenizer *t, const char *folder, struct mbl_arena *a, struct mbl_error *e) {
    const struct mbl_json *model = mbl_json_get(t->json, "model"), *merges = mbl_json_get(model, "merges");
    struct mbl_buf text = {0};
    int failed = save(folder, "vocab.json", mbl_json_get(model, "vocab"), a, e);
    bool fits = true;
    mbl_buf_adds(&text, "#version: 0.2\n");
    for (size_t i = 0; i < merges->count; i++) {
        const struct mbl_json *m = merges->items[i];
        const char *left = m->type == MBL_JSON_STRING ? m->string : m->items[0]->string, *right = m->type == MBL_JSON_STRING ? ""
            : m->items[1]->string;
        fits = fits && !strpbrk(left, "\r\n") && !strpbrk(right, " \r\n") && (m->type == MBL_JSON_STRING || !strchr(left, ' '));
        mbl_buf_addf(&text, m->type == MBL_JSON_STRING ? "%s%s\n" : "%s %s\n", left, right);
    }
    if (!failed && fits) failed = mbl_file_write(mbl_path_join(a, folder, "merges.txt"), text.data, text.len, e);
    mbl_buf_free(&text);
    return failed;
}

/* Whether the second text of a pair has a type of its own, which transformers passes on to the model only if it is told so. Decoders that
 * have such frames take no types. */
static bool has_types(const struct mbl_tokenizer *t) {
    bool found = false;
    for (size_t i = 0; i < t->frames[1].count; i++) found |= t->frames[1].parts[i].type > 0;
    return found && !t->bpe;
}

static struct mbl_json *input_names(struct mbl_arena *a) {
    static const char *const names[] = {"input_ids", "token_type_ids", "attention_mask"};
    struct mbl_json *list = mbl_json_list(a);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) mbl_json_push(a, list, mbl_json_string(a, names[i]));
    return list;
}

/* What was read is written again; what was not there is filled in. */
static struct mbl_json *config_of(const struct mbl_tokenizer *t, struct mbl_arena *a, struct mbl_json *specials) {
    const struct mbl_special_ids *s = &t->special;
    const struct {
        const char *key;
        int32_t id;
    } tokens[] = {{"unk_token", s->unk}, {"cls_token", s->cls}, {"sep_token", s->sep}, {"pad_token", s->pad},
                  {"mask_token", s->mask}, {"bos_token", s->bos}, {"eos_token", s->eos}};
    struct mbl_json *v = mbl_json_table(a);
    for (size_t i = 0; t->config && i < t->config->count; i++) mbl_json_set(a, v, t->config->keys[i], t->config->items[i]);
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++) {
        if (tokens[i].id < 0) continue;
        struct mbl_json *text = mbl_json_string(a, t->tokens[tokens[i].id]);
        mbl_json_set(a, specials, tokens[i].key, text);
        if (!mbl_json_get(v, tokens[i].key)) mbl_json_set(a, v, tokens[i].key, text);
    }
    if (!mbl_json_get(v, "tokenizer_class")) mbl_json_set(a, v, "tokenizer_class", mbl_json_string(a, "PreTrainedTokenizerFast"));
    if (!mbl_json_get(v, "model_max_length") && t->max_length) mbl_json_set(a, v, "model_max_length",
                                                                            mbl_json_int(a, (int64_t)t->max_length));
    if (has_types(t) && !mbl_json_get(v, "model_input_names")) mbl_json_set(a, v, "model_input_names", input_names(a));
    if (!mbl_json_get(v, "clean_up_tokenization_spaces")) mbl_json_set(a, v, "clean_up_tokenization_spaces", mbl_json_bool(a, false));
    if (t->normalizer_count && t->normalizers[0].kind == MBL_NORMALIZE_BERT && !mbl_json_get(v, "do_lower_case"))
        mbl_json_set(a, v, "do_lower_case", mbl_json_bool(a, t->normalizers[0].lower));
    return v;
}

int mbl_tokenizer_save(const struct mbl_tokenizer *t, const char *folder, struct mbl_error *e) {
    struct mbl_arena a = {0};
    struct mbl_json *specials = mbl_json_table(&a), *config = config_of(t, &a, specials);
    int failed = mbl_folder_make(folder, e) || save(folder, "tokenizer.json", t->json, &a, e) ||
        save(folder, "tokenizer_config.json", config, &a, e) ||
                 save(folder, "special_tokens_map.json", specials, &a, e) ||
                 (t->bpe ? save_merges_txt(t, folder, &a, e) : save_vocab_txt(t, folder, &a, e));
    mbl_arena_free(&a);
    return failed ? -1 : 0;
}
