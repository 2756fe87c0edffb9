/* tokenizer_read.c: a tokenizer out of tokenizer.json: its vocabulary, its special tokens, and all together. What the file asks for is made
 * of the steps that are known (tokenizer_read_text.c, tokenizer_read_tokens.c), or refused by its name and its place: a step that is left
 * out would give other ids.
 */
#include "tokenizer_steps.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* -- for all steps */

int mbl_step_refuse(struct mbl_step_reader *r, const char *place, const char *what, const char *found) {
    return mbl_error_set(r->e, "%s: %s.%s is \"%.200s\", which mbuild's tokenizers don't know", r->name, place, what, found);
}

int mbl_step_read(struct mbl_step_reader *r, const struct mbl_json *v, const char *place, const struct mbl_step_kind *kinds, size_t count) {
    struct mbl_buf known = {0};
    if (!v || v->type == MBL_JSON_NULL) return 0;
    const char *type = mbl_json_get_string(v, "type");
    if (!type) return mbl_error_set(r->e, "%s: %s has no type", r->name, place);
    for (size_t i = 0; i < count; i++) {
        if (!strcmp(kinds[i].name, type)) {
            mbl_buf_free(&known);
            return kinds[i].read(r, v, place);
        }
        mbl_buf_addf(&known, "%s%s", i ? ", " : "", kinds[i].name);
    }
    mbl_error_set(r->e, "%s: %s.type is \"%.200s\"; mbuild's tokenizers know %s", r->name, place, type, known.data);
    mbl_buf_free(&known);
    return -1;
}

int mbl_step_read_all(struct mbl_step_reader *r, const struct mbl_json *v, const char *place, const char *key,
                      const struct mbl_step_kind *kinds, size_t count) {
    const struct mbl_json *list = mbl_json_get(v, key);
    if (!list || list->type != MBL_JSON_LIST) return mbl_error_set(r->e, "%s: %s.%s is no list", r->name, place, key);
    for (size_t i = 0; i < list->count; i++) {
        char *inner = mbl_arena_printf(&r->t->arena, "%s.%s[%zu]", place, key, i);
        if (mbl_step_read(r, list->items[i], inner, kinds, count)) return -1;
    }
    return 0;
}

const char *mbl_step_text(struct mbl_step_reader *r, const struct mbl_json *v, const char *key, const char *place, size_t *length) {
    const char *text = mbl_json_get_string(v, key);
    if (!text) {
        mbl_error_set(r->e, "%s: %s.%s is missing or no string", r->name, place, key);
        return NULL;
    }
    *length = strlen(text);
    return text;
}

/* A pattern that is a plain string: { "String": … }. */
const char *mbl_step_pattern(struct mbl_step_reader *r, const struct mbl_json *v, const char *place, size_t *length) {
    const struct mbl_json *pattern = mbl_json_get(v, "pattern");
    const char *text = mbl_json_get_string(pattern, "String"), *regex = mbl_json_get_string(pattern, "Regex");
    if (regex) mbl_step_refuse(r, place, "pattern.Regex", regex);
    else if (!text || !*text) mbl_error_set(r->e, "%s: %s.pattern.String is missing or empty", r->name, place);
    if (!text || !*text) return NULL;
    *length = strlen(text);
    return text;
}

/* -- the vocabulary */

static int read_vocabulary(struct mbl_step_reader *r, const struct mbl_json *model) {
    struct mbl_tokenizer *t = r->t;
    const struct mbl_json *vocab = mbl_json_get(model, "vocab"), *added = mbl_json_get(r->t->json, "added_tokens");
    int64_t most = -1, room;
    if (!vocab || vocab->type != MBL_JSON_TABLE || !vocab->count) return mbl_error_set(r->e,
                                                                                       "%s: model.vocab is missing or no table of ids",
                                                                                           r->name);
    if (added && added->type == MBL_JSON_NULL) added = NULL;
    if (added && added->type != MBL_JSON_LIST) return mbl_error_set(r->e, "%s: added_tokens is no list", r->name);
    t->added_count = added ? added->count : 0;
    room = (int64_t)(vocab->count + t->added_count) * 8 + 65536; /* gaps are fine, but a few ids must not claim all memory */
    if (room > MBL_TOKENIZER_IDS_MOST) room = MBL_TOKENIZER_IDS_MOST;
    for (size_t i = 0; i < vocab->count + t->added_count; i++) {
        const struct mbl_json *v = i < vocab->count ? vocab->items[i] : mbl_json_get(added->items[i - vocab->count], "id");
        int64_t id = v && v->type == MBL_JSON_INT ? v->integer : -1;
        if (id < 0 || id >= room) {
            char *where = i < vocab->count ? mbl_arena_printf(&t->arena, "model.vocab[\"%.100s\"]", vocab->keys[i])
                                           : mbl_arena_printf(&t->arena, "added_tokens[%zu].id", i - vocab->count);
            return mbl_error_set(r->e, "%s: %s is no id; an integer from 0 to %lld is expected", r->name, where, (long long)room - 1);
        }
        if (id > most) most = id;
    }
    t->size = (size_t)most + 1;
    t->tokens = mbl_arena_alloc(&t->arena, t->size * sizeof *t->tokens);
    mbl_token_map_open(&t->vocabulary, vocab->count);
    for (size_t i = 0; i < vocab->count; i++) {
        int64_t id = vocab->items[i]->integer;
        if (t->tokens[id])
            return mbl_error_set(r->e, "%s: model.vocab gives id %lld to \"%.100s\" and to \"%.100s\"", r->name, (long long)id,
                                 t->tokens[id], vocab->keys[i]);
        t->tokens[id] = vocab->keys[i];
        mbl_token_map_set(&t->vocabulary, vocab->keys[i], strlen(vocab->keys[i]), (int32_t)id);
    }
    return 0;
}

/* Added tokens whose text the model knows have the model's id. */
static int read_added(struct mbl_step_reader *r) {
    struct mbl_tokenizer *t = r->t;
    const struct mbl_json *list = mbl_json_get(t->json, "added_tokens");
    int32_t next = (int32_t)t->vocabulary.count;
    t->added = mbl_arena_alloc(&t->arena, t->added_count * sizeof *t->added);
    t->added_by_id = mbl_arena_alloc(&t->arena, t->size * sizeof *t->added_by_id);
    for (size_t i = 0; i < t->size; i++) t->added_by_id[i] = -1;
    for (size_t i = 0; i < t->added_count; i++) {
        const struct mbl_json *v = list->items[i];
        struct mbl_added_token *a = &t->added[i];
        a->text = mbl_json_get_string(v, "content");
        a->id = (int32_t)mbl_json_get_int(v, "id", -1);
        a->single_word = mbl_json_get_bool(v, "single_word", false);
        a->lstrip = mbl_json_get_bool(v, "lstrip", false);
        a->rstrip = mbl_json_get_bool(v, "rstrip", false);
        a->special = mbl_json_get_bool(v, "special", false);
        a->normalized = mbl_json_get_bool(v, "normalized", !a->special);
        if (!a->text || !*a->text) return mbl_error_set(r->e, "%s: added_tokens[%zu].content is missing or empty", r->name, i);
        int32_t known = mbl_token_map_get(&t->vocabulary, a->text, strlen(a->text));
        if ((known >= 0 && known != a->id) || (known < 0 && t->tokens[a->id]))
            return mbl_error_set(r->e, "%s: added_tokens[%zu] gives \"%.100s\" the id %d, but model.vocab has \"%.100s\" with id %d",
                                 r->name, i, a->text,
                                 a->id, known >= 0 ? a->text : t->tokens[a->id], known >= 0 ? known : a->id);
        if (known < 0 && a->id != next++) /* `tokenizers` counts on, whatever the file says */
            return mbl_error_set(r->e, "%s: added_tokens[%zu] has the id %d; %d is expected, the next after model.vocab", r->name, i,
                                 a->id, next - 1);
        if (t->added_by_id[a->id] >= 0) return mbl_error_set(r->e, "%s: added_tokens[%zu] has the id %d, as one before it has", r->name,
                                                             i, a->id);
        t->added_by_id[a->id] = (int32_t)i;
    }
    for (size_t i = 0; i < t->added_count; i++) t->tokens[t->added[i].id] = t->added[i].text;
    return 0;
}

/* -- special tokens, as tokenizer_config.json names them, or else by the names that models use */

static int32_t find_special(const struct mbl_tokenizer *t, const char *key, const char *const *otherwise) {
    const struct mbl_json *v = mbl_json_get(t->config, key);
    const char *text = v && v->type == MBL_JSON_STRING ? v->string : mbl_json_get_string(v, "content");
    if (text) return mbl_tokenizer_id(t, text);
    if (v && v->type == MBL_JSON_NULL) return -1;
    for (; *otherwise; otherwise++) {
        int32_t id = mbl_tokenizer_id(t, *otherwise);
        if (id >= 0) return id;
    }
    return -1;
}

static void find_specials(struct mbl_tokenizer *t) {
    struct mbl_special_ids *s = &t->special;
    double length = mbl_json_get_float(t->config, "model_max_length", 0);
    s->cls = find_special(t, "cls_token", (const char *[]){"[CLS]", NULL});
    s->sep = find_special(t, "sep_token", (const char *[]){"[SEP]", NULL});
    s->pad = find_special(t, "pad_token", (const char *[]){"[PAD]", "<pad>", NULL});
    s->mask = find_special(t, "mask_token", (const char *[]){"[MASK]", "<mask>", NULL});
    s->bos = find_special(t, "bos_token", (const char *[]){"<s>", "<|begin_of_text|>", "<|endoftext|>", NULL});
    s->eos = find_special(t, "eos_token", (const char *[]){"</s>", "<|end_of_text|>", "<|endoftext|>", NULL});
    s->unk = t->unk >= 0 ? t->unk : find_special(t, "unk_token", (const char *[]){"<|endoftext|>", NULL});
    /* transformers writes 1e30 where nothing is known. */
    t->max_length = length >= 1 && length <= 1e9 ? (size_t)length : 0;
}

/* -- all together */

struct mbl_tokenizer *mbl_tokenizer_new(void) {
    static atomic_uint_fast64_t serial;
    struct mbl_tokenizer *t = mbl_alloc(sizeof *t);
    mbl_unicode_open();
    t->serial = ++serial;
    return t;
}

int mbl_tokenizer_build(struct mbl_tokenizer *t, const struct mbl_json *json, const struct mbl_json *config, const char *name,
                        struct mbl_error *e) {
    struct mbl_step_reader r = {t, name, e};
    const struct mbl_json *model = mbl_json_get(json, "model");
    const char *type = mbl_json_get_string(model, "type");
    t->json = json;
    t->config = config;
    if (!model || model->type != MBL_JSON_TABLE) return mbl_error_set(e,
                                                                      "%s: no model in it; a tokenizer.json is expected", name);
    if (!type) type = mbl_json_get(model, "merges") ? "BPE" : mbl_json_get(model, "continuing_subword_prefix") ? "WordPiece" : "";
    t->bpe = !strcmp(type, "BPE");
    if (!t->bpe && strcmp(type, "WordPiece"))
        return mbl_error_set(e, "%s: model.type is \"%.200s\"; mbuild's tokenizers know WordPiece, BPE", name, type);
    mbl_default_frames(&r);
    if (read_vocabulary(&r, model) || read_added(&r)) return -1;
    if (mbl_read_normalizer(&r, mbl_json_get(json, "normalizer")) || mbl_read_splitter(&r, mbl_json_get(json, "pre_tokenizer")) ||
        mbl_read_processor(&r, mbl_json_get(json, "post_processor")) || mbl_read_decoder(&r, mbl_json_get(json, "decoder")))
        return -1;
    if (t->bpe ? mbl_bpe_open(t, model, name, e) : mbl_wordpiece_open(t, model, name, e)) return -1;
    mbl_added_open(t);
    t->chunked = !t->bpe && t->normalizer_count == 1 && t->normalizers[0].kind == MBL_NORMALIZE_BERT && t->splitter_count == 1 &&
                 t->splitters[0].kind == MBL_SPLIT_BERT && !t->normal.any;
    find_specials(t);
    return 0;
}

int mbl_tokenizer_parse(const char *text, size_t length, const char *name, struct mbl_tokenizer **out, struct mbl_error *e) {
    struct mbl_json *json;
    struct mbl_tokenizer *t = mbl_tokenizer_new();
    *out = NULL;
    if (mbl_json_parse(text, length, name, &t->arena, &json, e) || mbl_tokenizer_build(t, json, NULL, name, e)) {
        mbl_tokenizer_free(t);
        return -1;
    }
    *out = t;
    return 0;
}

void mbl_tokenizer_free(struct mbl_tokenizer *t) {
    if (!t) return;
    mbl_token_map_free(&t->vocabulary);
    mbl_token_map_free(&t->raw_tokens);
    mbl_trie_free(&t->pieces);
    mbl_trie_free(&t->raw.trie);
    mbl_trie_free(&t->normal.trie);
    free(t->merges);
    mbl_arena_free(&t->arena);
    free(t);
}

/* -- looking */

const char *mbl_tokenizer_model(const struct mbl_tokenizer *t) {
    return t->bpe ? "BPE" : "WordPiece";
}

size_t mbl_tokenizer_size(const struct mbl_tokenizer *t) {
    return t->size;
}

int32_t mbl_tokenizer_id(const struct mbl_tokenizer *t, const char *token) {
    for (size_t i = 0; i < t->added_count; i++)
        if (!strcmp(t->added[i].text, token)) return t->added[i].id;
    return mbl_token_map_get(&t->vocabulary, token, strlen(token));
}

const char *mbl_tokenizer_token(const struct mbl_tokenizer *t, int32_t id) {
    return id >= 0 && (size_t)id < t->size ? t->tokens[id] : NULL;
}

bool mbl_tokenizer_is_special(const struct mbl_tokenizer *t, int32_t id) {
    return id >= 0 && (size_t)id < t->size && t->added_by_id[id] >= 0 && t->added[t->added_by_id[id]].special;
}

const struct mbl_special_ids *mbl_tokenizer_special(const struct mbl_tokenizer *t) {
    return &t->special;
}

size_t mbl_tokenizer_max_length(const struct mbl_tokenizer *t) {
    return t->max_length;
}

size_t mbl_tokenizer_special_count(const struct mbl_tokenizer *t, bool pair) {
    return t->frames[pair].added;
}
