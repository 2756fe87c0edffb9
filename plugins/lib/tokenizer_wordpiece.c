/* tokenizer_wordpiece.c: the model WordPiece: the longest piece that begins a word, then the longest that goes on with it, and so on; a
 * word that
 * pieces can't make up is [UNK] as a whole. */
#include "tokenizer_private.h"

#include <string.h>

int mbl_wordpiece_open(struct mbl_tokenizer *t, const struct mbl_json *model, const char *name, struct mbl_error *e) {
    const char *unk = mbl_json_get_string(model, "unk_token"), *prefix = mbl_json_get_string(model, "continuing_subword_prefix");
    int64_t most = mbl_json_get_int(model, "max_input_chars_per_word", 100);
    size_t bytes = 0;
    if (!unk) unk = "[UNK]";
    if (!prefix) prefix = "##";
    t->unk = mbl_token_map_get(&t->vocabulary, unk, strlen(unk));
    if (t->unk < 0) return mbl_error_set(e, "%s: model.unk_token is \"%s\", which model.vocab doesn't have", name, unk);
    if (most < 1 || most > 1 << 20)
        return mbl_error_set(e, "%s: model.max_input_chars_per_word is %lld; 1 to 1048576 is expected", name, (long long)most);
    t->most_chars = (size_t)most;
    mbl_trie_open(&t->pieces);
    for (size_t i = 0; i < t->size; i++) {
        if (!t->tokens[i]) continue;
        size_t n = strlen(t->tokens[i]);
        bytes += n;
        if (bytes >= MBL_TOKENIZER_IDS_MOST) return mbl_error_set(e, "%s: model.vocab has more than 16 MiB of text", name);
        if (n) mbl_trie_add(&t->pieces, t->tokens[i], n, mbl_token_map_get(&t->vocabulary, t->tokens[i], n));
    }
    t->has_inner = true;
    for (const char *p = prefix; *p && t->has_inner; p++) {
        t->inner = mbl_trie_step(&t->pieces, t->inner, (unsigned char)*p);
        t->has_inner = t->inner != 0;
    }
    return 0;
}

static size_t count_chars(const char *s, size_t n) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++) count += ((unsigned char)s[i] & 0xc0) != 0x80;
    return count;
}

void mbl_wordpiece_word(const struct mbl_tokenizer *t, struct mbl_encode_work *w, const struct mbl_token_text *text, size_t begin,
                        size_t end) {
    size_t first = w->count, at = begin;
    bool whole = end - begin <= t->most_chars || count_chars(text->bytes + begin, end - begin) <= t->most_chars;
    while (whole && at < end) {
        int32_t id = -1;
        size_t stop = at;
        uint32_t node = at > begin ? t->inner : 0;
        if (at > begin && !t->has_inner) break;
        for (size_t i = at; i < end; i++) {
            node = mbl_trie_step(&t->pieces, node, (unsigned char)text->bytes[i]);
            if (!node) break;
            if (t->pieces.ends[node] < 0) continue;
            id = t->pieces.ends[node];
            stop = i + 1;
        }
        if (id < 0) break;
        mbl_work_add(w, id, at, stop);
        at = stop;
    }
    if (whole && at == end) return;
    w->count = first;
    mbl_work_add(w, t->unk, begin, end);
}
