/* tokenizer_added.c: tokens that stand in a text as they are, [MASK] say, and are cut out before anything else sees it: the leftmost
 * first, of those
 * that begin at one place the longest. Some are looked for in the text as it was given, the others after the normalizers. */
#include "tokenizer_private.h"

#include <string.h>

void mbl_added_open(struct mbl_tokenizer *t) {
    struct mbl_encode_work w = {0};
    for (size_t i = 0; i < t->added_count; i++) {
        struct mbl_added_token *a = &t->added[i];
        struct mbl_token_text text = {a->text, strlen(a->text), NULL, 0};
        if (a->normalized) mbl_normalize_text(t, &w, &text);
        a->normal = mbl_arena_strndup(&t->arena, text.bytes, text.length);
        struct mbl_added_set *set = a->normalized ? &t->normal : &t->raw;
        if (!text.length) continue;
        if (!set->any) mbl_trie_open(&set->trie);
        set->any = true;
        set->first[(unsigned char)text.bytes[0]] = true;
        mbl_trie_add(&set->trie, text.bytes, text.length, (int32_t)i);
    }
    mbl_work_close(&w);
}

static bool white_before(const char *s, size_t *end) {
    size_t begin = *end, length;
    if (!begin) return false;
    do begin--;
    while (begin > 0 && ((unsigned char)s[begin] & 0xc0) == 0x80);
    if (!(mbl_unicode_classes(mbl_utf8_decode(s + begin, &length)) & MBL_UNICODE_WHITE)) return false;
    *end = begin;
    return true;
}

static bool is_word_at(const char *s, size_t at) {
    size_t length;
    return mbl_unicode_classes(mbl_utf8_decode(s + at, &length)) & MBL_UNICODE_WORD;
}

static bool is_word_before(const char *s, size_t at) {
    do at--;
    while (at > 0 && ((unsigned char)s[at] & 0xc0) == 0x80);
    return is_word_at(s, at);
}

const struct mbl_added_token *mbl_added_find(const struct mbl_tokenizer *t, const struct mbl_added_set *set, const char *s, size_t n,
                                             size_t *at,
                                             size_t *begin, size_t *end) {
    size_t done = *at, length; /* what is before belongs to earlier matches */
    for (size_t i = *at; i < n;) {
        if (!set->first[(unsigned char)s[i]]) {
            i++;
            continue;
        }
        int32_t found = -1;
        uint32_t node = 0;
        size_t stop = i;
        for (size_t j = i; j < n && (node = mbl_trie_step(&set->trie, node, (unsigned char)s[j])); j++)
            if (set->trie.ends[node] >= 0) found = set->trie.ends[node], stop = j + 1;
        if (found < 0) {
            i++;
            continue;
        }
        const struct mbl_added_token *a = &t->added[found];
        if (a->single_word && ((i > 0 && is_word_before(s, i)) || (stop < n && is_word_at(s, stop)))) {
            i = stop;
            continue;
        }
        *begin = i;
        *end = *at = stop;
        while (a->lstrip && *begin > done && white_before(s, begin)) {}
        while (a->rstrip && *end < n && mbl_unicode_classes(mbl_utf8_decode(s + *end, &length)) & MBL_UNICODE_WHITE) *end += length;
        return a;
    }
    return NULL;
}
