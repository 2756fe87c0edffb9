/* tokenizer_work.c: what one thread needs to itself while it encodes: rooms for text, the tokens so far, and a cache of words. Text
 * repeats its
 * words, so that most are found there; it is bounded, and forgets all when it is full. */
#include "tokenizer_private.h"

#include <stdlib.h>
#include <string.h>

#define CACHE_SLOTS ((size_t)1 << 16)
#define CACHE_KEYS ((size_t)1 << 21)   /* bytes */
#define CACHE_VALUES ((size_t)1 << 18) /* tokens */

void mbl_work_add(struct mbl_encode_work *w, int32_t id, size_t begin, size_t end) {
    w->tokens = mbl_grow(w->tokens, &w->cap, w->count + 1, sizeof *w->tokens);
    w->tokens[w->count++] = (struct mbl_token){id, (uint32_t)begin, (uint32_t)end};
}

struct mbl_token_room *mbl_work_room(struct mbl_encode_work *w, const struct mbl_token_text *text) {
    const struct mbl_token_room *first = &w->rooms[0];
    uintptr_t at = (uintptr_t)text->bytes, from = (uintptr_t)first->bytes;
    return &w->rooms[first->bytes && at >= from && at <= from + first->cap];
}

void mbl_work_close(struct mbl_encode_work *w) {
    for (int i = 0; i < 2; i++) {
        free(w->rooms[i].bytes);
        free(w->rooms[i].from);
    }
    free(w->chars);
    free(w->words);
    free(w->spare);
    free(w->tokens);
    free(w->symbols);
    free(w->heap);
    free(w->slots);
    free(w->keys);
    free(w->values);
    *w = (struct mbl_encode_work){0};
}

static void cache_clear(struct mbl_encode_work *w) {
    memset(w->slots, 0, CACHE_SLOTS * sizeof *w->slots);
    w->slot_used = w->key_used = w->value_used = 0;
}

void mbl_cache_open(struct mbl_encode_work *w, uint64_t serial, bool offsets) {
    if (!w->slots) {
        w->slots = mbl_alloc(CACHE_SLOTS * sizeof *w->slots);
        w->keys = mbl_alloc(CACHE_KEYS);
        w->values = mbl_alloc(CACHE_VALUES * sizeof *w->values);
    } else if (w->serial != serial || w->offsets != offsets) {
        cache_clear(w);
    }
    w->serial = serial;
    w->offsets = offsets;
}

bool mbl_cache_get(struct mbl_encode_work *w, const char *word, size_t length, size_t begin) {
    if (length > MBL_CACHE_KEY_MOST) return false;
    uint32_t hash = (uint32_t)mbl_token_hash(word, length);
    for (size_t i = hash % CACHE_SLOTS; w->slots[i].length; i = (i + 1) % CACHE_SLOTS) {
        const struct mbl_cache_slot *s = &w->slots[i];
        if (s->hash != hash || s->length != length || memcmp(w->keys + s->key, word, length)) continue;
        w->tokens = mbl_grow(w->tokens, &w->cap, w->count + s->count, sizeof *w->tokens);
        struct mbl_token *to = w->tokens + w->count;
        const struct mbl_cached_token *from = w->values + s->value;
        for (size_t k = 0; k < s->count; k++)
            to[k] = (struct mbl_token){from[k].id, (uint32_t)begin + from[k].begin, (uint32_t)begin + from[k].end};
        w->count += s->count;
        return true;
    }
    return false;
}

void mbl_cache_put(struct mbl_encode_work *w, const char *word, size_t length, size_t begin, size_t first) {
    size_t count = w->count - first;
    if (!length || length > MBL_CACHE_KEY_MOST || count > CACHE_VALUES / 64) return;
    if ((w->slot_used + 1) * 2 > CACHE_SLOTS || w->key_used + length > CACHE_KEYS || w->value_used + count > CACHE_VALUES) cache_clear(w);
    uint32_t hash = (uint32_t)mbl_token_hash(word, length);
    size_t i = hash % CACHE_SLOTS;
    while (w->slots[i].length) i = (i + 1) % CACHE_SLOTS;
    w->slots[i] = (struct mbl_cache_slot){hash, (uint32_t)w->key_used, (uint32_t)w->value_used, (uint16_t)length, (uint16_t)count};
    w->slot_used++;
    memcpy(w->keys + w->key_used, word, length);
    w->key_used += length;
    for (size_t k = first; k < w->count; k++) {
        const struct mbl_token *t = &w->tokens[k];
        w->values[w->value_used++] = (struct mbl_cached_token){t->id, (uint16_t)(t->begin - begin), (uint16_t)(t->end - begin)};
    }
}
