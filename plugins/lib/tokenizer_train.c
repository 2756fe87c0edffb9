/* tokenizer_train.c: a vocabulary out of text. Both models are learned by byte-pair encoding: words begin as bytes (BPE) or characters
 * (WordPiece, where
 * those inside a word carry ##), and the pair that stands most often becomes one token, until there are enough.
 *
 * Of pairs as frequent as each other the one of lower ids comes first, and ids follow from counts and code points alone, so that neither
 * the order of the texts nor that of a hash table matters. With the same choices `tokenizers` learns the same merges.
 */
#include "tokenizer_files.h"
#include "utf8.h"

#include <stdlib.h>
#include <string.h>

#define PREFIX "##"
#define ALPHABET_MOST 1000 /* characters of WordPiece, the most frequent; a word with others is left out */

struct word {
    const char *text;
    uint32_t length, hash;
    int64_t count;
    int32_t *symbols;
    uint32_t symbol_count;
};
struct pair {
    uint64_t key; /* left << 32 | right */
    int64_t count;
    uint32_t *where; /* words that have it, or had */
    size_t where_count, where_cap;
};
struct candidate {
    int64_t count;
    uint64_t key;
    size_t pair;
};
struct trainer {
    const struct mbl_tokenizer_training *o;
    bool bytes;
    struct mbl_tokenizer *t; /* the result; its arena holds tokens and words, its steps split words for WordPiece */
    struct word *words;
    size_t word_count, word_cap;
    uint32_t *word_slots; /* index + 1 */
    size_t word_mask;
    const char **tokens;
    size_t token_count, token_cap;
    struct mbl_token_map ids;
    struct mbl_json *merges;
    struct pair *pairs;
    size_t pair_count, pair_cap;
    uint32_t *pair_slots; /* index + 1 */
    size_t pair_mask;
    struct candidate *heap;
    size_t heap_count, heap_cap;
};

/* -- words and how often they stand */

static void count_word(struct trainer *r, const char *text, size_t length) {
    uint32_t hash = (uint32_t)mbl_token_hash(text, length);
    if ((r->word_count + 1) * 2 > r->word_mask) {
        free(r->word_slots);
        r->word_mask = r->word_mask ? r->word_mask * 2 + 1 : 1023;
        r->word_slots = mbl_alloc((r->word_mask + 1) * sizeof *r->word_slots);
        for (size_t i = 0; i < r->word_count; i++) {
            size_t slot = r->words[i].hash & r->word_mask;
            while (r->word_slots[slot]) slot = (slot + 1) & r->word_mask;
            r->word_slots[slot] = (uint32_t)i + 1;
        }
    }
    size_t slot = hash & r->word_mask;
    for (; r->word_slots[slot]; slot = (slot + 1) & r->word_mask) {
        struct word *w = &r->words[r->word_slots[slot] - 1];
        if (w->hash != hash || w->length != length || memcmp(w->text, text, length)) continue;
        w->count++;
        return;
    }
    r->words = mbl_grow(r->words, &r->word_cap, r->word_count + 1, sizeof *r->words);
    r->words[r->word_count] = (struct word){mbl_arena_strndup(&r->t->arena, text, length), (uint32_t)length, hash, 1, NULL, 0};
    r->word_slots[slot] = (uint32_t)++r->word_count;
}

static void count_bytes(struct trainer *r, const char *s, size_t n) {
    size_t (*match)(const char *s, size_t n) = mbl_split_pattern(MBL_GPT2_PATTERN);
    for (size_t at = 0, length; at < n; at += length) {
        length = match(s + at, n - at);
        count_word(r, s + at, length);
    }
}

/* Line by line: no normalizer of BERT's looks beyond one. */
static void count_bert(struct trainer *r, struct mbl_encode_work *w, const char *s, size_t n) {
    for (size_t at = 0; at < n;) {
        const char *end = memchr(s + at, '\n', n - at);
        size_t length = end ? (size_t)(end - (s + at)) : n - at;
        struct mbl_token_text text = {s + at, length, NULL, 0};
        mbl_normalize_text(r->t, w, &text);
        mbl_split(r->t, w, &text);
        for (size_t i = 0; i < w->word_count; i++) count_word(r, text.bytes + w->words[i].begin, w->words[i].end - w->words[i].begin);
        at += length + 1;
    }
}

/* -- first tokens */

static int32_t add_token(struct trainer *r, const char *text, size_t length) {
    int32_t id = mbl_token_map_get(&r->ids, text, length);
    if (id >= 0) return id;
    char *copy = mbl_arena_strndup(&r->t->arena, text, length);
    r->tokens = mbl_grow(r->tokens, &r->token_cap, r->token_count + 1, sizeof *r->tokens);
    r->tokens[r->token_count] = copy;
    mbl_token_map_set(&r->ids, copy, length, (int32_t)r->token_count);
    return (int32_t)r->token_count++;
}

static void start_bytes(struct trainer *r) {
    int32_t ids[256];
    /* In the order of their characters, as `tokenizers` sorts its alphabet. */
    for (uint32_t c = 0; c < 512; c++) {
        for (int b = 0; b < 256; b++) {
            char text[4];
            if (mbl_byte_chars[b] == c) ids[b] = add_token(r, text, mbl_utf8_encode(c, text));
        }
    }
    for (size_t i = 0; i < r->word_count; i++) {
        struct word *w = &r->words[i];
        w->symbols = mbl_arena_alloc(&r->t->arena, w->length * sizeof *w->symbols);
        w->symbol_count = w->length;
        for (uint32_t k = 0; k < w->length; k++) w->symbols[k] = ids[(unsigned char)w->text[k]];
    }
}

struct letter {
    uint32_t c;
    bool inside;
    int64_t count;
};

static int letter_by_count(const void *a, const void *b) {
    const struct letter *x = a, *y = b;
    return x->count != y->count ? (x->count < y->count ? 1 : -1) : x->c < y->c ? -1 : x->c > y->c;
}

static int letter_by_code(const void *a, const void *b) {
    const struct letter *x = a, *y = b;
    return x->c < y->c ? -1 : x->c > y->c;
}

static void start_characters(struct trainer *r) {
    struct letter *letters = mbl_alloc(0x110000 * sizeof *letters);
    size_t length, room = (r->o->vocabulary - r->token_count) / 2, most = room < ALPHABET_MOST ? room : ALPHABET_MOST, count = 0;
    for (size_t i = 0; i < r->word_count; i++) {
        const struct word *w = &r->words[i];
        for (size_t at = 0; at < w->length; at += length) {
            struct letter *l = &letters[mbl_utf8_decode(w->text + at, &length)];
            l->count += w->count;
            l->inside = l->inside || at > 0;
        }
    }
    for (uint32_t c = 0; c < 0x110000; c++) {
        letters[c].c = c;
        if (letters[c].count) letters[count++] = letters[c];
    }
    qsort(letters, count, sizeof *letters, letter_by_count);
    if (count > most) count = most;
    qsort(letters, count, sizeof *letters, letter_by_code);
    for (int inside = 0; inside < 2; inside++) {
        for (size_t i = 0; i < count; i++) {
            char text[8] = PREFIX, bare[4];
            size_t n = mbl_utf8_encode(letters[i].c, bare), from = inside ? strlen(PREFIX) : 0;
            memcpy(text + from, bare, n);
            if (!inside || letters[i].inside) add_token(r, text, from + n);
        }
    }
    free(letters);
    for (size_t i = 0; i < r->word_count; i++) {
        struct word *w = &r->words[i];
        w->symbols = mbl_arena_alloc(&r->t->arena, w->length * sizeof *w->symbols);
        for (size_t at = 0; at < w->length; at += length) {
            char text[8] = PREFIX;
            size_t from = at ? strlen(PREFIX) : 0;
            mbl_utf8_decode(w->text + at, &length);
            memcpy(text + from, w->text + at, length);
            w->symbols[w->symbol_count] = mbl_token_map_get(&r->ids, text, from + length);
            if (w->symbols[w->symbol_count++] < 0) {
                w->symbol_count = 0;
                break;
            }
        }
    }
}

/* -- pairs */

static struct pair *find_pair(struct trainer *r, int32_t left, int32_t right) {
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    if ((r->pair_count + 1) * 2 > r->pair_mask) {
        free(r->pair_slots);
        r->pair_mask = r->pair_mask ? r->pair_mask * 2 + 1 : 4095;
        r->pair_slots = mbl_alloc((r->pair_mask + 1) * sizeof *r->pair_slots);
        for (size_t i = 0; i < r->pair_count; i++) {
            size_t slot = (size_t)(r->pairs[i].key * 0x9e3779b97f4a7c15u >> 20) & r->pair_mask;
            while (r->pair_slots[slot]) slot = (slot + 1) & r->pair_mask;
            r->pair_slots[slot] = (uint32_t)i + 1;
        }
    }
    size_t slot = (size_t)(key * 0x9e3779b97f4a7c15u >> 20) & r->pair_mask;
    for (; r->pair_slots[slot]; slot = (slot + 1) & r->pair_mask)
        if (r->pairs[r->pair_slots[slot] - 1].key == key) return &r->pairs[r->pair_slots[slot] - 1];
    r->pairs = mbl_grow(r->pairs, &r->pair_cap, r->pair_count + 1, sizeof *r->pairs);
    r->pairs[r->pair_count] = (struct pair){.key = key};
    r->pair_slots[slot] = (uint32_t)++r->pair_count;
    return &r->pairs[r->pair_count - 1];
}

static bool candidate_before(struct candidate a, struct candidate b) {
    return a.count != b.count ? a.count > b.count : a.key < b.key;
}

static void push(struct trainer *r, size_t pair) {
    struct candidate c = {r->pairs[pair].count, r->pairs[pair].key, pair};
    if (c.count <= 0) return;
    r->heap = mbl_grow(r->heap, &r->heap_cap, r->heap_count + 1, sizeof *r->heap);
    size_t i = r->heap_count++;
    for (; i > 0 && candidate_before(c, r->heap[(i - 1) / 2]); i = (i - 1) / 2) r->heap[i] = r->heap[(i - 1) / 2];
    r->heap[i] = c;
}

static struct candidate pop(struct trainer *r) {
    struct candidate top = r->heap[0], last = r->heap[--r->heap_count];
    size_t i = 0, child;
    while ((child = 2 * i + 1) < r->heap_count) {
        if (child + 1 < r->heap_count && candidate_before(r->heap[child + 1], r->heap[child])) child++;
        if (!candidate_before(r->heap[child], last)) break;
        r->heap[i] = r->heap[child];
        i = child;
    }
    r->heap[i] = last;
    return top;
}

/* Adds a word's pairs to the counts, or takes them away. Pairs with the token `fresh` become candidates anew. */
static void count_pairs(struct trainer *r, size_t word, int sign, int32_t fresh) {
    const struct word *w = &r->words[word];
    for (uint32_t i = 0; i + 1 < w->symbol_count; i++) {
        struct pair *p = find_pair(r, w->symbols[i], w->symbols[i + 1]);
        p->count += sign * w->count;
        if (sign < 0 || (fresh >= 0 && w->symbols[i] != fresh && w->symbols[i + 1] != fresh)) continue;
        if (p->where_count && p->where[p->where_count - 1] == (uint32_t)word) continue;
        p->where = mbl_grow(p->where, &p->where_cap, p->where_count + 1, sizeof *p->where);
        p->where[p->where_count++] = (uint32_t)word;
    }
}

static void merge_in_word(struct word *w, int32_t left, int32_t right, int32_t both) {
    uint32_t out = 0;
    for (uint32_t i = 0; i < w->symbol_count; i++) {
        bool here = i + 1 < w->symbol_count && w->symbols[i] == left && w->symbols[i + 1] == right;
        w->symbols[out++] = here ? both : w->symbols[i];
        i += here;
    }
    w->symbol_count = out;
}

static bool has_pair(const struct word *w, int32_t left, int32_t right) {
    for (uint32_t i = 0; i + 1 < w->symbol_count; i++)
        if (w->symbols[i] == left && w->symbols[i + 1] == right) return true;
    return false;
}

static void merge_pair(struct trainer *r, size_t pair) {
    int32_t left = (int32_t)(r->pairs[pair].key >> 32), right = (int32_t)(uint32_t)r->pairs[pair].key;
    const char *a = r->tokens[left], *b = r->tokens[right];
    struct mbl_buf text = {0};
    struct mbl_json *merge = mbl_json_list(&r->t->arena);
    mbl_buf_adds(&text, a);
    mbl_buf_adds(&text, r->bytes ? b : b + strlen(PREFIX));
    int32_t both = add_token(r, text.data, text.len);
    mbl_buf_free(&text);
    mbl_json_push(&r->t->arena, merge, mbl_json_string(&r->t->arena, a));
    mbl_json_push(&r->t->arena, merge, mbl_json_string(&r->t->arena, b));
    mbl_json_push(&r->t->arena, r->merges, merge);
    /* Counting may move the array of pairs, so the list of words is taken out of it. */
    uint32_t *where = r->pairs[pair].where;
    size_t count = r->pairs[pair].where_count, known = r->pair_count;
    bool old = (size_t)both + 1 < r->token_count; /* another pair has made this token already */
    r->pairs[pair].where = NULL;
    r->pairs[pair].where_count = r->pairs[pair].where_cap = 0;
    for (size_t i = 0; i < count; i++) {
        struct word *w = &r->words[where[i]];
        if (!has_pair(w, left, right)) continue;
        count_pairs(r, where[i], -1, both);
        merge_in_word(w, left, right, both);
        count_pairs(r, where[i], 1, both);
    }
    free(where);
    for (size_t i = old ? 0 : known; i < r->pair_count; i++)
        if (i >= known || (int32_t)(r->pairs[i].key >> 32) == both || (int32_t)(uint32_t)r->pairs[i].key == both) push(r, i);
}

static void learn(struct trainer *r) {
    int64_t least = r->o->least_count ? (int64_t)r->o->least_count : 2;
    r->merges = mbl_json_list(&r->t->arena);
    for (size_t i = 0; i < r->word_count; i++) count_pairs(r, i, 1, -1);
    for (size_t i = 0; i < r->pair_count; i++) push(r, i);
    while (r->heap_count && r->token_count < r->o->vocabulary) {
        struct candidate top = pop(r);
        if (top.count != r->pairs[top.pair].count) { /* it has changed since it was put there */
            push(r, top.pair);
            continue;
        }
        if (top.count < least) break;
        merge_pair(r, top.pair);
    }
}

/* -- the tokenizer */

static int finish(struct trainer *r, struct mbl_error *e) {
    struct mbl_arena *a = &r->t->arena;
    struct mbl_json *vocab = mbl_token_table(a, r->token_count), *config = mbl_json_table(a), *json;
    for (size_t i = 0; i < r->token_count; i++) mbl_token_table_add(a, vocab, r->tokens[i], (int64_t)i);
    if (r->o->max_length) mbl_json_set(a, config, "model_max_length", mbl_json_int(a, (int64_t)r->o->max_length));
    if (r->bytes) {
        static const char *const keys[] = {"bos_token", "eos_token", "unk_token", "pad_token"};
        for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) mbl_json_set(a, config, keys[i], mbl_json_string(a, r->tokens[0]));
        if (mbl_bpe_json(a, vocab, r->merges, config, "the learned vocabulary", &json, e)) return -1;
    } else {
        mbl_json_set(a, config, "do_lower_case", mbl_json_bool(a, r->o->lowercase));
        if (mbl_wordpiece_json(a, vocab, config, "the learned vocabulary", &json, e)) return -1;
    }
    r->t->normalizer_count = r->t->splitter_count = 0; /* those that it was trained with are made again */
    r->t->bpe = r->bytes;
    return mbl_tokenizer_build(r->t, json, config, "the learned vocabulary", e);
}

static int train(struct trainer *r, const struct mbl_text *texts, size_t count, struct mbl_error *e) {
    static const char *const bpe[] = {"<|endoftext|>"}, *const wordpiece[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
    struct mbl_normalizer *normal = mbl_arena_alloc(&r->t->arena, sizeof *normal);
    struct mbl_splitter *split = mbl_arena_alloc(&r->t->arena, sizeof *split);
    struct mbl_encode_work w = {0};
    *normal = (struct mbl_normalizer){.kind = MBL_NORMALIZE_BERT, .clean = true, .cjk = true, .accents = r->o->lowercase,
        .lower = r->o->lowercase};
    *split = (struct mbl_splitter){.kind = MBL_SPLIT_BERT, .split = true};
    r->t->normalizers = normal;
    r->t->splitters = split;
    r->t->normalizer_count = r->t->splitter_count = 1;
    for (size_t i = 0; i < count; i++) {
        size_t bad = mbl_utf8_check(texts[i].data, texts[i].length);
        if (texts[i].length > MBL_TOKENIZER_TEXT_MOST) {
            mbl_work_close(&w);
            return mbl_error_set(e, "text %zu has %zu bytes; at most %zu are expected", i, texts[i].length, MBL_TOKENIZER_TEXT_MOST);
        }
        if (bad < texts[i].length) {
            mbl_work_close(&w);
            return mbl_error_set(e, "text %zu: byte %zu (0x%02x) is not UTF-8", i, bad, (unsigned)(unsigned char)texts[i].data[bad]);
        }
        if (r->bytes) count_bytes(r, texts[i].data, texts[i].length);
        else count_bert(r, &w, texts[i].data, texts[i].length);
    }
    mbl_work_close(&w);
    mbl_token_map_open(&r->ids, r->o->vocabulary + 1024);
    for (size_t i = 0; i < (r->bytes ? 1u : 5u); i++) add_token(r, r->bytes ? bpe[i] : wordpiece[i],
                                                                strlen(r->bytes ? bpe[i] : wordpiece[i]));
    if (r->bytes) start_bytes(r);
    else start_characters(r);
    learn(r);
    return finish(r, e);
}

int mbl_tokenizer_train(const struct mbl_tokenizer_training *o, const struct mbl_text *texts, size_t count, struct mbl_tokenizer **out,
                        struct mbl_error *e) {
    bool bytes = !strcmp(o->model, "bpe");
    size_t least = bytes ? 257 : 7;
    *out = NULL;
    if (!bytes && strcmp(o->model, "wordpiece")) return mbl_error_set(e,
                                                                      "\"%.100s\" is no model to train; \"bpe\" or \"wordpiece\" is", o->model);
    if (o->vocabulary < least || o->vocabulary > 1 << 20)
        return mbl_error_set(e, "a vocabulary of %zu tokens; %zu to 1048576 are expected for %s", o->vocabulary, least, o->model);
    struct trainer r = {.o = o, .bytes = bytes, .t = mbl_tokenizer_new()};
    int failed = train(&r, texts, count, e);
    for (size_t i = 0; i < r.pair_count; i++) free(r.pairs[i].where);
    free(r.pairs);
    free(r.pair_slots);
    free(r.words);
    free(r.word_slots);
    free(r.tokens);
    free(r.heap);
    mbl_token_map_free(&r.ids);
    if (failed) mbl_tokenizer_free(r.t);
    else *out = r.t;
    return failed;
}
