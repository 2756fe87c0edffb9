/* tokenizer_normalize.c: normalizers, character by character, with track of where each byte of the result comes from.
 *
 * That track follows `tokenizers`: a character that was put in place of another comes from where that one did, one that was added from
 * where the one before it did.
 */
#include "tokenizer_private.h"

#include <string.h>

/* -- transforms */

static struct mbl_span text_origin(const struct mbl_token_text *t, size_t byte) {
    if (t->from) return t->from[byte];
    size_t begin = byte, end = byte + 1;
    while (begin > 0 && ((unsigned char)t->bytes[begin] & 0xc0) == 0x80) begin--;
    while (end < t->length && ((unsigned char)t->bytes[end] & 0xc0) == 0x80) end++;
    return (struct mbl_span){(uint32_t)(t->base + begin), (uint32_t)(t->base + end)};
}

void mbl_token_origin(const struct mbl_token_text *text, size_t begin, size_t end, struct mbl_token *out) {
    out->begin = out->end = 0;
    if (begin >= end || end > text->length) return; /* a token of no bytes, where a model dropped characters */
    out->begin = text_origin(text, begin).begin;
    out->end = text_origin(text, end - 1).end;
}

void mbl_transform_begin(struct mbl_transform *f, const struct mbl_token_text *in, struct mbl_token_room *out, bool offsets) {
    *f = (struct mbl_transform){*in, out, 0, offsets};
    out->length = 0;
}

static char *transform_room(struct mbl_transform *f, size_t n) {
    struct mbl_token_room *r = f->out;
    if (r->cap - r->length < n) r->bytes = mbl_grow(r->bytes, &r->cap, r->length + n, 1);
    if (f->offsets && r->from_cap - r->length < n) r->from = mbl_grow(r->from, &r->from_cap, r->length + n, sizeof *r->from);
    return r->bytes + r->length;
}

static size_t transform_next(const struct mbl_transform *f) {
    size_t length;
    if (f->at >= f->in.length) return 0;
    mbl_utf8_decode(f->in.bytes + f->at, &length);
    return length;
}

void mbl_transform_put(struct mbl_transform *f, uint32_t c, int32_t change) {
    char bytes[4];
    size_t n = mbl_utf8_encode(c, bytes);
    memcpy(transform_room(f, 4), bytes, n);
    if (f->offsets) {
        struct mbl_span origin = {0};
        if (change > 0 && f->at > 0) origin = text_origin(&f->in, f->at - 1);
        else if (change <= 0 && f->at < f->in.length) origin = text_origin(&f->in, f->at);
        for (size_t i = 0; i < n; i++) f->out->from[f->out->length + i] = origin;
    }
    f->out->length += n;
    for (int32_t taken = change; taken <= 0; taken++) f->at += transform_next(f);
}

void mbl_transform_copy(struct mbl_transform *f, size_t n) {
    memcpy(transform_room(f, n), f->in.bytes + f->at, n);
    if (f->offsets)
        for (size_t i = 0; i < n; i++) f->out->from[f->out->length + i] = text_origin(&f->in, f->at + i);
    f->out->length += n;
    f->at += n;
}

void mbl_transform_skip(struct mbl_transform *f, size_t n) {
    f->at += n;
}

void mbl_transform_insert(struct mbl_transform *f, const char *bytes, size_t n, size_t like) {
    if (!n) return;
    memcpy(transform_room(f, n), bytes, n);
    if (f->offsets) {
        struct mbl_span origin = text_origin(&f->in, like);
        for (size_t i = 0; i < n; i++) f->out->from[f->out->length + i] = origin;
    }
    f->out->length += n;
}

/* What was written becomes the text. */
void mbl_transform_end(struct mbl_transform *f, struct mbl_token_text *text) {
    *text = (struct mbl_token_text){f->out->bytes ? f->out->bytes : "", f->out->length, f->offsets ? f->out->from : NULL, 0};
}

/* -- the normalizers; each writes f->out */

struct normal {
    const struct mbl_normalizer *step;
    struct mbl_encode_work *work;
    struct mbl_transform f;
};

/* Writes the characters that `keep` keeps, mapped by `map`; those taken out count as behind the one before them. */
static void normal_filter(struct normal *n, bool (*keep)(uint32_t c), uint32_t (*map)(uint32_t c)) {
    const struct mbl_token_text *in = &n->f.in;
    size_t length;
    for (size_t at = 0; at < in->length; at += length) {
        uint32_t c = mbl_utf8_decode(in->bytes + at, &length);
        if (!keep(c)) continue;
        n->f.at = at;
        mbl_transform_put(&n->f, map ? map(c) : c, 0);
    }
}

static bool is_clean(uint32_t c) {
    return !(mbl_unicode_classes(c) & MBL_UNICODE_DROPPED);
}

static uint32_t white_to_space(uint32_t c) {
    return mbl_unicode_classes(c) & MBL_UNICODE_WHITE ? ' ' : c;
}

static bool is_spacing(uint32_t c) {
    return !(mbl_unicode_classes(c) & MBL_UNICODE_NONSPACING);
}

static bool is_no_mark(uint32_t c) {
    return !(mbl_unicode_classes(c) & MBL_UNICODE_MARK);
}

static void normal_clean(struct normal *n) {
    normal_filter(n, is_clean, white_to_space);
}

static void normal_space_cjk(struct normal *n) {
    const struct mbl_token_text *in = &n->f.in;
    size_t length;
    for (size_t at = 0; at < in->length; at += length) {
        uint32_t c = mbl_utf8_decode(in->bytes + at, &length);
        if (mbl_unicode_is_cjk(c)) {
            mbl_transform_put(&n->f, ' ', 0);
            mbl_transform_put(&n->f, c, 1);
            mbl_transform_put(&n->f, ' ', 1);
        } else {
            mbl_transform_copy(&n->f, length);
        }
    }
}

static void normal_form(struct normal *n, enum mbl_unicode_form form) {
    struct mbl_encode_work *w = n->work;
    size_t count = mbl_unicode_normalize(n->f.in.bytes, n->f.in.length, form, &w->chars, &w->char_cap);
    for (size_t i = 0; i < count; i++) mbl_transform_put(&n->f, w->chars[i].c, w->chars[i].change);
}

static void normal_decompose(struct normal *n) {
    normal_form(n, MBL_UNICODE_NFD);
}

static void normal_form_of_step(struct normal *n) {
    normal_form(n, n->step->form);
}

static void normal_drop_nonspacing(struct normal *n) {
    normal_filter(n, is_spacing, NULL);
}

static void normal_drop_marks(struct normal *n) {
    normal_filter(n, is_no_mark, NULL);
}

static void normal_lower(struct normal *n) {
    const struct mbl_token_text *in = &n->f.in;
    size_t length;
    for (size_t at = 0; at < in->length; at += length) {
        uint32_t c = mbl_utf8_decode(in->bytes + at, &length);
        mbl_transform_put(&n->f, mbl_unicode_lower(c), 0);
        if (c == 0x130) mbl_transform_put(&n->f, 0x307, 1);
    }
}

static void normal_strip(struct normal *n) {
    const struct mbl_token_text *in = &n->f.in;
    size_t begin = 0, end = in->length, length;
    while (n->step->left && begin < end && mbl_unicode_classes(mbl_utf8_decode(in->bytes + begin,
                                                                               &length)) & MBL_UNICODE_WHITE) begin += length;
    while (n->step->right && end > begin) {
        size_t last = end - 1;
        while (last > begin && ((unsigned char)in->bytes[last] & 0xc0) == 0x80) last--;
        if (!(mbl_unicode_classes(mbl_utf8_decode(in->bytes + last, &length)) & MBL_UNICODE_WHITE)) break;
        end = last;
    }
    mbl_transform_skip(&n->f, begin);
    mbl_transform_copy(&n->f, end - begin);
}

static void normal_prepend(struct normal *n) {
    if (n->f.in.length) mbl_transform_insert(&n->f, n->step->to, n->step->to_length, 0);
    mbl_transform_copy(&n->f, n->f.in.length);
}

static void normal_replace(struct normal *n) {
    const struct mbl_normalizer *s = n->step;
    const char *begin = n->f.in.bytes, *end = begin + n->f.in.length, *hit;
    while (begin + n->f.at < end && (hit = memmem(begin + n->f.at, (size_t)(end - begin) - n->f.at, s->from, s->from_length))) {
        mbl_transform_copy(&n->f, (size_t)(hit - begin) - n->f.at);
        mbl_transform_insert(&n->f, s->to, s->to_length, n->f.at + s->from_length - 1);
        mbl_transform_skip(&n->f, s->from_length);
    }
    mbl_transform_copy(&n->f, n->f.in.length - n->f.at);
}

static bool is_ascii(const char *s, size_t n) {
    uint64_t any = 0, eight;
    for (; n >= 8; s += 8, n -= 8) {
        memcpy(&eight, s, 8);
        any |= eight;
    }
    for (; n; s++, n--) any |= (unsigned char)*s;
    return !(any & 0x8080808080808080u);
}

void mbl_normalize_text(const struct mbl_tokenizer *t, struct mbl_encode_work *w, struct mbl_token_text *text) {
    for (size_t i = 0; i < t->normalizer_count; i++) {
        const struct mbl_normalizer *s = &t->normalizers[i];
        bool ascii = is_ascii(text->bytes, text->length), bert = s->kind == MBL_NORMALIZE_BERT;
        const struct {
            bool wanted;
            void (*run)(struct normal *n);
        } passes[] = {{bert && s->clean, normal_clean},
                      {bert && s->cjk && !ascii, normal_space_cjk},
                      {bert && s->accents && !ascii, normal_decompose},
                      {bert && s->accents && !ascii, normal_drop_nonspacing},
                      {(bert && s->lower) || s->kind == MBL_NORMALIZE_LOWER, normal_lower},
                      {s->kind == MBL_NORMALIZE_FORM && !ascii, normal_form_of_step},
                      {s->kind == MBL_NORMALIZE_STRIP_ACCENTS && !ascii, normal_drop_marks},
                      {s->kind == MBL_NORMALIZE_STRIP, normal_strip},
                      {s->kind == MBL_NORMALIZE_PREPEND, normal_prepend},
                      {s->kind == MBL_NORMALIZE_REPLACE, normal_replace}};
        for (size_t p = 0; p < sizeof passes / sizeof *passes; p++) {
            if (!passes[p].wanted) continue;
            struct normal n = {.step = s, .work = w};
            mbl_transform_begin(&n.f, text, mbl_work_room(w, text), w->offsets);
            passes[p].run(&n);
            mbl_transform_end(&n.f, text);
        }
    }
}
