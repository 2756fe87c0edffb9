/* tokenizer_maps.c: strings to ids: a hash table for whole strings, a trie for those that begin at some place of a text; and the cache
 * that a thread
 * keeps of words it has seen. */
#include "tokenizer_private.h"

#include <stdlib.h>
#include <string.h>

/* Fast rather than safe against chosen keys: a table has as many keys as its file, and the cache is bounded. */
uint64_t mbl_token_hash(const void *bytes, size_t n) {
    const unsigned char *p = bytes;
    uint64_t h = n * 0x9e3779b97f4a7c15u, v;
    for (; n >= 8; p += 8, n -= 8) {
        memcpy(&v, p, 8);
        h = (h ^ v) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    if (n) {
        v = 0;
        memcpy(&v, p, n);
        h = (h ^ v) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    h *= 0xc4ceb9fe1a85ec53u;
    return h ^ h >> 29;
}

void mbl_token_map_open(struct mbl_token_map *m, size_t count) {
    size_t slots = 16;
    while (slots < count * 2) slots *= 2;
    *m = (struct mbl_token_map){.slots = mbl_alloc(slots * sizeof *m->slots), .mask = slots - 1};
}

void mbl_token_map_set(struct mbl_token_map *m, const char *text, size_t length, int32_t id) {
    uint32_t hash = (uint32_t)mbl_token_hash(text, length);
    size_t i = hash & m->mask;
    for (; m->slots[i].text; i = (i + 1) & m->mask)
        if (m->slots[i].hash == hash && m->slots[i].length == length && !memcmp(m->slots[i].text, text, length)) break;
    if (!m->slots[i].text) m->count++;
    m->slots[i] = (struct mbl_token_slot){text, (uint32_t)length, hash, id};
}

int32_t mbl_token_map_get(const struct mbl_token_map *m, const char *text, size_t length) {
    if (!m->slots) return -1;
    uint32_t hash = (uint32_t)mbl_token_hash(text, length);
    for (size_t i = hash & m->mask; m->slots[i].text; i = (i + 1) & m->mask)
        if (m->slots[i].hash == hash && m->slots[i].length == length && !memcmp(m->slots[i].text, text, length)) return m->slots[i].id;
    return -1;
}

void mbl_token_map_free(struct mbl_token_map *m) {
    free(m->slots);
    *m = (struct mbl_token_map){0};
}

/* -- the trie */

#define TRIE_KEY(node, byte) ((uint64_t)(node) << 8 | (byte))
#define TRIE_SLOT(t, key) ((size_t)((key)*0x9e3779b97f4a7c15u >> 24) & (t)->mask)

static uint32_t trie_node(struct mbl_trie *t) {
    t->ends = mbl_grow(t->ends, &t->cap, t->nodes + 1, sizeof *t->ends);
    t->ends[t->nodes] = -1;
    return (uint32_t)t->nodes++;
}

void mbl_trie_open(struct mbl_trie *t) {
    *t = (struct mbl_trie){.edges = mbl_alloc(1024 * sizeof *t->edges), .mask = 1023};
    trie_node(t);
}

static void trie_grow(struct mbl_trie *t) {
    struct mbl_trie old = *t;
    t->mask = old.mask * 2 + 1;
    t->edges = mbl_alloc((t->mask + 1) * sizeof *t->edges);
    for (size_t i = 0; i <= old.mask; i++) {
        if (!old.edges[i]) continue;
        size_t slot = TRIE_SLOT(t, old.edges[i] >> 32);
        while (t->edges[slot]) slot = (slot + 1) & t->mask;
        t->edges[slot] = old.edges[i];
    }
    free(old.edges);
}

uint32_t mbl_trie_step(const struct mbl_trie *t, uint32_t node, unsigned char byte) {
    uint64_t key = TRIE_KEY(node, byte);
    for (size_t slot = TRIE_SLOT(t, key); t->edges[slot]; slot = (slot + 1) & t->mask)
        if (t->edges[slot] >> 32 == key) return (uint32_t)t->edges[slot];
    return 0;
}

void mbl_trie_add(struct mbl_trie *t, const char *text, size_t length, int32_t id) {
    uint32_t node = 0;
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)text[i];
        uint32_t next = mbl_trie_step(t, node, byte);
        if (!next) {
            if ((t->used + 1) * 2 > t->mask) trie_grow(t);
            next = trie_node(t);
            size_t slot = TRIE_SLOT(t, TRIE_KEY(node, byte));
            while (t->edges[slot]) slot = (slot + 1) & t->mask;
            t->edges[slot] = TRIE_KEY(node, byte) << 32 | next;
            t->used++;
        }
        node = next;
    }
    t->ends[node] = id;
}

void mbl_trie_free(struct mbl_trie *t) {
    free(t->edges);
    free(t->ends);
    *t = (struct mbl_trie){0};
}
