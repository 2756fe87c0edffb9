/* tokenizer_decode.c: tokens back to text, by the decoders that tokenizer.json names. Each takes the pieces of text and gives pieces; at
 * the end
 * they stand one behind the other. */
#include "tokenizer_private.h"
#include "utf8.h"

#include <stdlib.h>
#include <string.h>

struct piece {
    const char *text;
    size_t length;
};
struct pieces {
    struct mbl_arena arena;
    struct piece *list;
    size_t count;
};

static void piece_set(struct pieces *p, size_t i, struct mbl_buf *text) {
    p->list[i] = (struct piece){mbl_arena_strndup(&p->arena, mbl_buf_str(text), text->len), text->len};
}

static void replace_all(struct mbl_buf *out, const char *s, size_t n, const char *from, size_t from_length, const char *to,
                        size_t to_length) {
    const char *end = s + n, *hit;
    while (s < end && (hit = memmem(s, (size_t)(end - s), from, from_length))) {
        mbl_buf_add(out, s, (size_t)(hit - s));
        mbl_buf_add(out, to, to_length);
        s = hit + from_length;
    }
    mbl_buf_add(out, s, (size_t)(end - s));
}

/* What is not UTF-8 becomes U+FFFD, one for each longest beginning of a character (Unicode 3.9, "substitution of maximal subparts"). */
static void add_lossy(struct mbl_buf *out, const char *s, size_t n) {
    static const unsigned char second_least[] = {[0xe0 - 0xc0] = 0xa0, [0xf0 - 0xc0] = 0x90, [0xf4 - 0xc0] = 0};
    for (size_t at = 0; at < n;) {
        size_t good = mbl_utf8_check(s + at, n - at);
        mbl_buf_add(out, s + at, good);
        at += good;
        if (at == n) return;
        unsigned char lead = (unsigned char)s[at];
        size_t length = lead >= 0xc2 && lead <= 0xdf ? 2 : (lead & 0xf0) == 0xe0 ? 3 : lead >= 0xf0 && lead <= 0xf4 ? 4 : 1, have = 1;
        while (have < length && at + have < n) {
            unsigned char c = (unsigned char)s[at + have];
            unsigned char least = have == 1 && (size_t)(lead - 0xc0) < sizeof second_least && second_least[lead - 0xc0]
                ? second_least[lead - 0xc0] : 0x80;
            unsigned char most = have == 1 && lead == 0xed ? 0x9f : have == 1 && lead == 0xf4 ? 0x8f : 0xbf;
            if (c < least || c > most) break;
            have++;
        }
        mbl_buf_adds(out, "\xef\xbf\xbd");
        at += have;
    }
}

static void decode_bytes(struct pieces *p) {
    struct mbl_buf raw = {0}, text = {0};
    for (size_t i = 0; i < p->count; i++) {
        size_t n;
        char *token = mbl_arena_strndup(&p->arena, p->list[i].text, p->list[i].length), *bytes = mbl_bytes_of_token(token, &p->arena, &n);
        if (bytes) mbl_buf_add(&raw, bytes, n);
        else mbl_buf_add(&raw, p->list[i].text, p->list[i].length);
    }
    add_lossy(&text, mbl_buf_str(&raw), raw.len);
    if (p->count) {
        piece_set(p, 0, &text);
        p->count = 1;
    }
    mbl_buf_free(&raw);
    mbl_buf_free(&text);
}

static void decode_wordpiece(const struct mbl_decoder *d, struct pieces *p) {
    static const char *const cleanups[][2] = {{" .", "."},     {" ?", "?"},     {" !", "!"},           {" ,", ","},   {" ' ", "'"},
           {" n't", "n't"},
                                              {" 'm", "'m"},   {" do not", " don't"}, {" 's", "'s"},   {" 've", "'ve"}, {" 're", "'re"}};
    for (size_t i = 0; i < p->count; i++) {
        struct mbl_buf text = {0}, next = {0};
        struct piece *piece = &p->list[i];
        if (i && piece->length >= d->from_length && !memcmp(piece->text, d->from, d->from_length)) {
            mbl_buf_add(&text, piece->text + d->from_length, piece->length - d->from_length);
        } else {
            if (i) mbl_buf_addc(&text, ' ');
            mbl_buf_add(&text, piece->text, piece->length);
        }
        for (size_t k = 0; k < sizeof cleanups / sizeof *cleanups && d->cleanup; k++) {
            next.len = 0;
            replace_all(&next, text.data, text.len, cleanups[k][0], strlen(cleanups[k][0]), cleanups[k][1], strlen(cleanups[k][1]));
            struct mbl_buf swap = text;
            text = next;
            next = swap;
        }
        piece_set(p, i, &text);
        mbl_buf_free(&text);
        mbl_buf_free(&next);
    }
}

/* Metaspace's mark is a space, but none at the very beginning if one was put there. */
static void decode_metaspace(const struct mbl_decoder *d, struct pieces *p) {
    for (size_t i = 0; i < p->count; i++) {
        struct mbl_buf text = {0};
        replace_all(&text, p->list[i].text, p->list[i].length, d->from, d->from_length, " ", i == 0 && d->prepend ? 0 : 1);
        piece_set(p, i, &text);
        mbl_buf_free(&text);
    }
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* <0xE2><0x82><0xAC> are one piece if they make text, else a U+FFFD each. */
static void decode_fallback(struct pieces *p) {
    size_t out = 0;
    for (size_t i = 0; i < p->count;) {
        struct mbl_buf bytes = {0};
        size_t run = i;
        for (; run < p->count; run++) {
            const struct piece *q = &p->list[run];
            if (q->length != 6 || memcmp(q->text, "<0x", 3) || q->text[5] != '>' || hex_digit(q->text[3]) < 0 ||
                hex_digit(q->text[4]) < 0) break;
            mbl_buf_addc(&bytes, (char)(hex_digit(q->text[3]) * 16 + hex_digit(q->text[4])));
        }
        if (run == i) {
            p->list[out++] = p->list[i++];
            continue;
        }
        if (mbl_utf8_check(bytes.data, bytes.len) == bytes.len) piece_set(p, out++, &bytes);
        else
            for (size_t k = i; k < run; k++) p->list[out++] = (struct piece){"\xef\xbf\xbd", 3};
        i = run;
        mbl_buf_free(&bytes);
    }
    p->count = out;
}

static void decode_fuse(struct pieces *p) {
    struct mbl_buf text = {0};
    if (!p->count) return;
    for (size_t i = 0; i < p->count; i++) mbl_buf_add(&text, p->list[i].text, p->list[i].length);
    piece_set(p, 0, &text);
    p->count = 1;
    mbl_buf_free(&text);
}

static void decode_strip(const struct mbl_decoder *d, struct pieces *p) {
    for (size_t i = 0; i < p->count; i++) {
        struct piece *q = &p->list[i];
        for (size_t k = 0; k < d->start && q->length >= d->from_length && !memcmp(q->text, d->from, d->from_length); k++) {
            q->text += d->from_length;
            q->length -= d->from_length;
        }
        for (size_t k = 0; k < d->stop && q->length >= d->from_length && !memcmp(q->text + q->length - d->from_length, d->from,
                                                                                 d->from_length); k++)
            q->length -= d->from_length;
    }
}

static void decode_replace(const struct mbl_decoder *d, struct pieces *p) {
    for (size_t i = 0; i < p->count; i++) {
        struct mbl_buf text = {0};
        replace_all(&text, p->list[i].text, p->list[i].length, d->from, d->from_length, d->to, d->to_length);
        piece_set(p, i, &text);
        mbl_buf_free(&text);
    }
}

static void decode_suffix(const struct mbl_decoder *d, struct pieces *p) {
    for (size_t i = 0; i < p->count; i++) {
        struct mbl_buf text = {0};
        replace_all(&text, p->list[i].text, p->list[i].length, d->from, d->from_length, " ", i + 1 < p->count);
        piece_set(p, i, &text);
        mbl_buf_free(&text);
    }
}

static void decode_step(const struct mbl_decoder *d, struct pieces *p) {
    switch (d->kind) {
    case MBL_DECODE_BYTES: decode_bytes(p); break;
    case MBL_DECODE_WORDPIECE: decode_wordpiece(d, p); break;
    case MBL_DECODE_METASPACE: decode_metaspace(d, p); break;
    case MBL_DECODE_FALLBACK: decode_fallback(p); break;
    case MBL_DECODE_FUSE: decode_fuse(p); break;
    case MBL_DECODE_STRIP: decode_strip(d, p); break;
    case MBL_DECODE_REPLACE: decode_replace(d, p); break;
    case MBL_DECODE_SUFFIX: decode_suffix(d, p); break;
    }
}

int mbl_tokenizer_decode(const struct mbl_tokenizer *t, const int32_t *ids, size_t count, bool skip_special, struct mbl_buf *out,
                         struct mbl_error *e) {
    struct pieces p = {0};
    p.list = mbl_alloc(count * sizeof *p.list);
    for (size_t i = 0; i < count; i++) {
        const char *text = mbl_tokenizer_token(t, ids[i]);
        if (!text) {
            free(p.list);
            return mbl_error_set(e, "token %zu has the id %d, which stands for nothing; the vocabulary has %zu", i, ids[i], t->size);
        }
        /* Of an added token that is looked for in normalized text, that text comes back. */
        int32_t added = t->added_by_id[ids[i]];
        if (added >= 0 && t->added[added].normalized) text = t->added[added].normal;
        if (skip_special && added >= 0 && t->added[added].special) continue;
        p.list[p.count++] = (struct piece){text, strlen(text)};
    }
    for (size_t i = 0; i < t->decoder_count; i++) decode_step(&t->decoders[i], &p);
    for (size_t i = 0; i < p.count; i++) {
        if (i && !t->decoder_count) mbl_buf_addc(out, ' ');
        mbl_buf_add(out, p.list[i].text, p.list[i].length);
    }
    free(p.list);
    mbl_arena_free(&p.arena);
    return 0;
}
