/* tokenizer_bpe.c: the model BPE (Sennrich et al. 2016): a word begins as its characters, or as its bytes (GPT-2), and of all neighbours
 * that a merge
 * is known for, those of the lowest rank become one, the leftmost first, until there are none.
 *
 * Short words look for the lowest rank by going through all neighbours; long ones, which come from text that nothing splits, keep a heap.
 */
#include "tokenizer_private.h"

#include <stdio.h>
#include <string.h>

#define BPE_SHORT 40 /* symbols */
#define PAIR(left, right) (((uint64_t)(uint32_t)(left) + 1) << 32 | (uint32_t)(right))

/* GPT-2's bytes_to_unicode: bytes that print are themselves, the others are U+0100 and on. */
const uint16_t mbl_byte_chars[256] = {
    256, 257, 258, 259, 260, 261, 262, 263, 264, 265, 266, 267, 268, 269, 270, 271, 272, 273, 274, 275, 276, 277, 278, 279, 280, 281,
    282, 283, 284, 285, 286, 287, 288, 33,  34,  35,  36,  37,  38,  39,  40,  41,  42,  43,  44,  45,  46,  47,  48,  49,  50,  51,
    52,  53,  54,  55,  56,  57,  58,  59,  60,  61,  62,  63,  64,  65,  66,  67,  68,  69,  70,  71,  72,  73,  74,  75,  76,  77,
    78,  79,  80,  81,  82,  83,  84,  85,  86,  87,  88,  89,  90,  91,  92,  93,  94,  95,  96,  97,  98,  99,  100, 101, 102, 103,
    104, 105, 106, 107, 108, 109, 110, 111, 112, 113, 114, 115, 116, 117, 118, 119, 120, 121, 122, 123, 124, 125, 126, 289, 290, 291,
    292, 293, 294, 295, 296, 297, 298, 299, 300, 301, 302, 303, 304, 305, 306, 307, 308, 309, 310, 311, 312, 313, 314, 315, 316, 317,
    318, 319, 320, 321, 322, 161, 162, 163, 164, 165, 166, 167, 168, 169, 170, 171, 172, 323, 174, 175, 176, 177, 178, 179, 180, 181,
    182, 183, 184, 185, 186, 187, 188, 189, 190, 191, 192, 193, 194, 195, 196, 197, 198, 199, 200, 201, 202, 203, 204, 205, 206, 207,
    208, 209, 210, 211, 212, 213, 214, 215, 216, 217, 218, 219, 220, 221, 222, 223, 224, 225, 226, 227, 228, 229, 230, 231, 232, 233,
    234, 235, 236, 237, 238, 239, 240, 241, 242, 243, 244, 245, 246, 247, 248, 249, 250, 251, 252, 253, 254, 255};

static int byte_of_char(uint32_t c) {
    if ((c >= 33 && c <= 126) || (c >= 161 && c <= 255 && c != 173)) return (int)c;
    if (c < 256 || c > 323) return -1;
    return (int)(c <= 288 ? c - 256 : c <= 322 ? c - 289 + 127 : 173);
}

char *mbl_bytes_of_token(const char *token, struct mbl_arena *a, size_t *length) {
    size_t n = strlen(token), bytes, out = 0;
    char *raw = mbl_arena_alloc(a, n + 1);
    for (size_t at = 0; at < n; at += bytes) {
        int byte = byte_of_char(mbl_utf8_decode(token + at, &bytes));
        if (byte < 0) return NULL;
        raw[out++] = (char)byte;
    }
    *length = out;
    return raw;
}

/* -- reading */

static int bpe_merge(struct mbl_tokenizer *t, const struct mbl_json *item, uint32_t rank, struct mbl_buf *both, const char *name,
                     struct mbl_error *e) {
    const char *left = NULL, *right = NULL;
    size_t left_length = 0, right_length = 0;
    if (item->type == MBL_JSON_STRING) {
        const char *space = strchr(item->string, ' ');
        if (space && !strchr(space + 1, ' ')) {
            left = item->string;
            left_length = (size_t)(space - left);
            right = space + 1;
            right_length = strlen(right);
        }
    } else if (item->type == MBL_JSON_LIST && item->count == 2 && item->items[0]->type == MBL_JSON_STRING &&
               item->items[1]->type == MBL_JSON_STRING) {
        left = item->items[0]->string;
        left_length = item->items[0]->count;
        right = item->items[1]->string;
        right_length = item->items[1]->count;
    }
    if (!left) return mbl_error_set(e, "%s: merge %u is no pair of tokens: \"left right\" or [\"left\", \"right\"] is expected", name,
                                    rank);
    both->len = 0;
    mbl_buf_add(both, left, left_length);
    mbl_buf_add(both, right, right_length);
    int32_t a = mbl_token_map_get(&t->vocabulary, left, left_length), b = mbl_token_map_get(&t->vocabulary, right, right_length);
    int32_t id = mbl_token_map_get(&t->vocabulary, both->data, both->len);
    if (a < 0 || b < 0 || id < 0) {
        const char *missing = a < 0 ? left : b < 0 ? right : both->data;
        size_t length = a < 0 ? left_length : b < 0 ? right_length : both->len;
        return mbl_error_set(e, "%s: merge %u needs the token \"%.*s\", which the vocabulary doesn't have", name, rank,
                             (int)(length > 200 ? 200 : length),
                             missing);
    }
    uint64_t pair = PAIR(a, b);
    size_t slot = (size_t)(pair * 0x9e3779b97f4a7c15u >> 20) & t->merge_mask;
    while (t->merges[slot].pair && t->merges[slot].pair != pair) slot = (slot + 1) & t->merge_mask;
    t->merges[slot] = (struct mbl_merge){pair, rank, id};
    return 0;
}

static void bpe_bytes(struct mbl_tokenizer *t) {
    for (int b = 0; b < 256; b++) {
        char text[16];
        size_t n = t->bytes ? mbl_utf8_encode(mbl_byte_chars[b], text) : (size_t)snprintf(text, sizeof text, "<0x%02X>", (unsigned)b);
        t->byte_ids[b] = mbl_token_map_get(&t->vocabulary, text, n);
    }
    if (!t->bytes || !t->whole_words) return;
    mbl_token_map_open(&t->raw_tokens, t->vocabulary.count);
    for (size_t i = 0; i < t->size; i++) {
        size_t n;
        const char *raw = t->tokens[i] ? mbl_bytes_of_token(t->tokens[i], &t->arena, &n) : NULL;
        if (raw) mbl_token_map_set(&t->raw_tokens, raw, n, mbl_token_map_get(&t->vocabulary, t->tokens[i], strlen(t->tokens[i])));
    }
}

int mbl_bpe_open(struct mbl_tokenizer *t, const struct mbl_json *model, const char *name, struct mbl_error *e) {
    static const char *const unsupported[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    const struct mbl_json *merges = mbl_json_get(model, "merges"), *dropout = mbl_json_get(model, "dropout");
    const char *unk = mbl_json_get_string(model, "unk_token");
    struct mbl_buf both = {0};
    int failed = 0;
    for (size_t i = 0; i < sizeof unsupported / sizeof *unsupported; i++) {
        const char *text = mbl_json_get_string(model, unsupported[i]);
        if (text && *text) return mbl_error_set(e, "%s: model.%s is \"%s\"; mbuild's BPE knows no such marks", name, unsupported[i], text);
    }
    if (mbl_json_is_number(dropout) && mbl_json_number(dropout) != 0)
        return mbl_error_set(e, "%s: model.dropout is %g; only tokenizers without dropout give the same ids each time", name,
                             mbl_json_number(dropout));
    if (!merges || merges->type != MBL_JSON_LIST) return mbl_error_set(e, "%s: model.merges is missing or no list", name);
    if (merges->count > MBL_TOKENIZER_IDS_MOST) return mbl_error_set(e, "%s: model.merges has %zu entries, more than 2^24", name,
                                                                     merges->count);
    t->unk = unk ? mbl_token_map_get(&t->vocabulary, unk, strlen(unk)) : -1;
    if (unk && t->unk < 0) return mbl_error_set(e, "%s: model.unk_token is \"%s\", which model.vocab doesn't have", name, unk);
    t->fallback = mbl_json_get_bool(model, "byte_fallback", false);
    t->fuse_unk = mbl_json_get_bool(model, "fuse_unk", false);
    t->whole_words = mbl_json_get_bool(model, "ignore_merges", false);
    size_t slots = 16;
    while (slots < merges->count * 2) slots *= 2;
    t->merges = mbl_alloc(slots * sizeof *t->merges);
    t->merge_mask = slots - 1;
    for (size_t i = 0; i < merges->count && !failed; i++) failed = bpe_merge(t, merges->items[i], (uint32_t)i, &both, name, e);
    mbl_buf_free(&both);
    if (!failed) bpe_bytes(t);
    return failed;
}

/* -- merging */

static const struct mbl_merge *bpe_find(const struct mbl_tokenizer *t, int32_t left, int32_t right) {
    uint64_t pair = PAIR(left, right);
    for (size_t slot = (size_t)(pair * 0x9e3779b97f4a7c15u >> 20) & t->merge_mask; t->merges[slot].pair; slot = (slot + 1) & t->merge_mask)
        if (t->merges[slot].pair == pair) return &t->merges[slot];
    return NULL;
}

static size_t bpe_short(const struct mbl_tokenizer *t, struct mbl_symbol *s, size_t n) {
    const struct mbl_merge *merges[BPE_SHORT];
    for (size_t i = 0; i + 1 < n; i++) merges[i] = bpe_find(t, s[i].id, s[i + 1].id);
    for (;;) {
        size_t best = n;
        for (size_t i = 0; i + 1 < n; i++)
            if (merges[i] && (best == n || merges[i]->rank < merges[best]->rank)) best = i;
        if (best == n) return n;
        s[best].id = merges[best]->id;
        s[best].length += s[best + 1].length;
        n--;
        memmove(s + best + 1, s + best + 2, (n - best - 1) * sizeof *s);
        if (best + 1 < n) {
            memmove(merges + best + 1, merges + best + 2, (n - best - 2) * sizeof *merges);
            merges[best] = bpe_find(t, s[best].id, s[best + 1].id);
        }
        if (best > 0) merges[best - 1] = bpe_find(t, s[best - 1].id, s[best].id);
    }
}

static bool heap_before(struct mbl_heap_entry a, struct mbl_heap_entry b) {
    return a.rank != b.rank ? a.rank < b.rank : a.place < b.place;
}

static void heap_push(const struct mbl_tokenizer *t, struct mbl_encode_work *w, int32_t left) {
    int32_t right = left < 0 ? -1 : w->symbols[left].next;
    if (right < 0) return;
    const struct mbl_merge *m = bpe_find(t, w->symbols[left].id, w->symbols[right].id);
    if (!m) return;
    w->heap = mbl_grow(w->heap, &w->heap_cap, w->heap_count + 1, sizeof *w->heap);
    struct mbl_heap_entry entry = {m->rank, (uint32_t)left, m->id};
    size_t i = w->heap_count++;
    for (; i > 0 && heap_before(entry, w->heap[(i - 1) / 2]); i = (i - 1) / 2) w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = entry;
}

static struct mbl_heap_entry heap_pop(struct mbl_encode_work *w) {
    struct mbl_heap_entry top = w->heap[0], last = w->heap[--w->heap_count];
    size_t i = 0, child;
    while ((child = 2 * i + 1) < w->heap_count) {
        if (child + 1 < w->heap_count && heap_before(w->heap[child + 1], w->heap[child])) child++;
        if (!heap_before(w->heap[child], last)) break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = last;
    return top;
}

static size_t bpe_long(const struct mbl_tokenizer *t, struct mbl_encode_work *w, size_t n) {
    struct mbl_symbol *s = w->symbols;
    for (size_t i = 0; i < n; i++) {
        s[i].previous = (int32_t)i - 1;
        s[i].next = i + 1 < n ? (int32_t)i + 1 : -1;
    }
    w->heap_count = 0;
    for (size_t i = 0; i < n; i++) heap_push(t, w, (int32_t)i);
    while (w->heap_count) {
        struct mbl_heap_entry top = heap_pop(w);
        int32_t left = (int32_t)top.place, right = s[left].next;
        if (s[left].id < 0 || right < 0) continue;
        /* The entry is old if its neighbours have become others since. */
        const struct mbl_merge *m = bpe_find(t, s[left].id, s[right].id);
        if (!m || m->id != top.id) continue;
        s[left].id = m->id;
        s[left].length += s[right].length;
        s[left].next = s[right].next;
        s[right].id = -1;
        if (s[left].next >= 0) s[s[left].next].previous = left;
        heap_push(t, w, s[left].previous);
        heap_push(t, w, left);
    }
    size_t out = 0;
    for (size_t i = 0; i < n; i++)
        if (s[i].id >= 0) s[out++] = s[i];
    return out;
}

/* -- a word's first symbols */

static void add_symbol(struct mbl_encode_work *w, size_t *n, int32_t id, size_t length) {
    w->symbols = mbl_grow(w->symbols, &w->symbol_cap, *n + 1, sizeof *w->symbols);
    w->symbols[(*n)++] = (struct mbl_symbol){.id = id, .length = (uint32_t)length};
}

/* Unknown characters wait until the next known one, so that they can be fused. Where a character falls back to its bytes, they wait on:
 * this is how
 * `tokenizers` has it. */
static size_t bpe_symbols(const struct mbl_tokenizer *t, struct mbl_encode_work *w, const char *s, size_t n) {
    size_t count = 0, waiting = 0, length;
    for (size_t at = 0; at < n; at += length) {
        length = 1;
        if (!t->bytes) mbl_utf8_decode(s + at, &length);
        int32_t id = t->bytes ? t->byte_ids[(unsigned char)s[at]] : mbl_token_map_get(&t->vocabulary, s + at, length);
        if (id >= 0) {
            if (waiting) add_symbol(w, &count, t->unk, waiting);
            waiting = 0;
            add_symbol(w, &count, id, length);
            continue;
        }
        bool fallback = t->fallback && !t->bytes;
        for (size_t i = 0; i < length && fallback; i++) fallback = t->byte_ids[(unsigned char)s[at + i]] >= 0;
        for (size_t i = 0; i < length && fallback; i++) add_symbol(w, &count, t->byte_ids[(unsigned char)s[at + i]], 1);
        if (fallback || t->unk < 0) continue;
        if (waiting && !t->fuse_unk) {
            add_symbol(w, &count, t->unk, waiting);
            waiting = 0;
        }
        waiting += length;
    }
    if (waiting) add_symbol(w, &count, t->unk, waiting);
    return count;
}

void mbl_bpe_word(const struct mbl_tokenizer *t, struct mbl_encode_work *w, const struct mbl_token_text *text, size_t begin, size_t end) {
    if (t->whole_words) {
        int32_t id = mbl_token_map_get(t->bytes ? &t->raw_tokens : &t->vocabulary, text->bytes + begin, end - begin);
        if (id >= 0) {
            mbl_work_add(w, id, begin, end);
            return;
        }
    }
    size_t n = bpe_symbols(t, w, text->bytes + begin, end - begin);
    n = n <= BPE_SHORT ? bpe_short(t, w->symbols, n) : bpe_long(t, w, n);
    for (size_t i = 0; i < n; i++) {
        mbl_work_add(w, w->symbols[i].id, begin, begin + w->symbols[i].length);
        begin += w->symbols[i].length;
    }
}
