/* tokenizer_read.c: a tokenizer out of tokenizer.json. What it asks for is made of the steps that are known here, or refused by its name
 * and its
 * place: a step that is left out would give other ids.
 */
#include "tokenizer_private.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define STEPS_MOST 64

struct reader {
    struct mbl_tokenizer *t;
    const char *name;
    struct mbl_error *e;
};

/* One kind of step: `read` gets the step's table and its place in the file. */
struct kind {
    const char *name;
    int (*read)(struct reader *r, const struct mbl_json *v, const char *place);
};

static int refuse(struct reader *r, const char *place, const char *what, const char *found) {
    return mbl_error_set(r->e, "%s: %s.%s is \"%.200s\", which mbuild's tokenizers don't know", r->name, place, what, found);
}

static int read_step(struct reader *r, const struct mbl_json *v, const char *place, const struct kind *kinds, size_t count) {
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

static int read_sequence(struct reader *r, const struct mbl_json *v, const char *place, const char *key, const struct kind *kinds,
                         size_t count) {
    const struct mbl_json *list = mbl_json_get(v, key);
    if (!list || list->type != MBL_JSON_LIST) return mbl_error_set(r->e, "%s: %s.%s is no list", r->name, place, key);
    for (size_t i = 0; i < list->count; i++) {
        char *inner = mbl_arena_printf(&r->t->arena, "%s.%s[%zu]", place, key, i);
        if (read_step(r, list->items[i], inner, kinds, count)) return -1;
    }
    return 0;
}

static const char *read_text(struct reader *r, const struct mbl_json *v, const char *key, const char *place, size_t *length) {
    const char *text = mbl_json_get_string(v, key);
    if (!text) {
        mbl_error_set(r->e, "%s: %s.%s is missing or no string", r->name, place, key);
        return NULL;
    }
    *length = strlen(text);
    return text;
}

/* A pattern that is a plain string: { "String": … }. */
static const char *read_plain_pattern(struct reader *r, const struct mbl_json *v, const char *place, size_t *length) {
    const struct mbl_json *pattern = mbl_json_get(v, "pattern");
    const char *text = mbl_json_get_string(pattern, "String"), *regex = mbl_json_get_string(pattern, "Regex");
    if (regex) refuse(r, place, "pattern.Regex", regex);
    else if (!text || !*text) mbl_error_set(r->e, "%s: %s.pattern.String is missing or empty", r->name, place);
    if (!text || !*text) return NULL;
    *length = strlen(text);
    return text;
}

/* -- normalizers */

static struct mbl_normalizer *add_normalizer(struct reader *r, enum mbl_normalizer_kind kind, const char *place) {
    struct mbl_tokenizer *t = r->t;
    if (t->normalizer_count == STEPS_MOST) {
        mbl_error_set(r->e, "%s: %s is the %dth normalizer; that is too many", r->name, place, STEPS_MOST + 1);
        return NULL;
    }
    if (!t->normalizers) t->normalizers = mbl_arena_alloc(&t->arena, STEPS_MOST * sizeof *t->normalizers);
    struct mbl_normalizer *n = &t->normalizers[t->normalizer_count++];
    n->kind = kind;
    return n;
}

static int normalizer_bert(struct reader *r, const struct mbl_json *v, const char *place) {
    struct mbl_normalizer *n = add_normalizer(r, MBL_NORMALIZE_BERT, place);
    if (!n) return -1;
    n->clean = mbl_json_get_bool(v, "clean_text", true);
    n->cjk = mbl_json_get_bool(v, "handle_chinese_chars", true);
    n->lower = mbl_json_get_bool(v, "lowercase", true);
    n->accents = mbl_json_get_bool(v, "strip_accents", n->lower);
    return 0;
}

static int normalizer_form(struct reader *r, const char *place, enum mbl_unicode_form form) {
    struct mbl_normalizer *n = add_normalizer(r, MBL_NORMALIZE_FORM, place);
    if (!n) return -1;
    n->form = form;
    return 0;
}

static int normalizer_nfc(struct reader *r, const struct mbl_json *v, const char *place) {
    (void)v;
    return normalizer_form(r, place, MBL_UNICODE_NFC);
}

static int normalizer_nfd(struct reader *r, const struct mbl_json *v, const char *place) {
    (void)v;
    return normalizer_form(r, place, MBL_UNICODE_NFD);
}

static int normalizer_nfkc(struct reader *r, const struct mbl_json *v, const char *place) {
    (void)v;
    return normalizer_form(r, place, MBL_UNICODE_NFKC);
}

static int normalizer_nfkd(struct reader *r, const struct mbl_json *v, const char *place) {
    (void)v;
    return normalizer_form(r, place, MBL_UNICODE_NFKD);
}

static int normalizer_lowercase(struct reader *r, const struct mbl_json *v, const char *place) {
    (void)v;
    return add_normalizer(r, MBL_NORMALIZE_LOWER, place) ? 0 : -1;
}

static int normalizer_strip_accents(struct reader *r, const struct mbl_json *v, const char *place) {
    (void)v;
    return add_normalizer(r, MBL_NORMALIZE_STRIP_ACCENTS, place) ? 0 : -1;
}

static int normalizer_strip(struct reader *r, const struct mbl_json *v, const char *place) {
    struct mbl_normalizer *n = add_normalizer(r, MBL_NORMALIZE_STRIP, place);
    if (!n) return -1;
    n->left = mbl_json_get_bool(v, "strip_left", true);
    n->right = mbl_json_get_bool(v, "strip_right", true);
    return 0;
}

static int normalizer_prepend(struct reader *r, const struct mbl_json *v, const char *place) {
    struct mbl_normalizer *n = add_normalizer(r, MBL_NORMALIZE_PREPEND, place);
    return n && (n->to = read_text(r, v, "prepend", place, &n->to_length)) ? 0 : -1;
}

static int normalizer_replace(struct reader *r, const struct mbl_json *v, const char *place) {
    struct mbl_normalizer *n = add_normalizer(r, MBL_NORMALIZE_REPLACE, place);
    return n && (n->from = read_plain_pattern(r, v, place, &n->from_length)) && (n->to = read_text(r, v, "content", place, &n->to_length))
        ? 0 : -1;
}

static int normalizer_sequence(struct reader *r, const struct mbl_json *v, const char *place);

static const struct kind normalizers[] = {
    {"BertNormalizer", normalizer_bert},   {"NFC", normalizer_nfc},          {"NFD", normalizer_nfd},
    {"NFKC", normalizer_nfkc},             {"NFKD", normalizer_nfkd},        {"Lowercase", normalizer_lowercase},
    {"StripAccents", normalizer_strip_accents}, {"Strip", normalizer_strip}, {"Prepend", normalizer_prepend},
    {"Replace", normalizer_replace},       {"Sequence", normalizer_sequence}};

static int normalizer_sequence(struct reader *r, const struct mbl_json *v, const char *place) {
    return read_sequence(r, v, place, "normalizers", normalizers, COUNT(normalizers));
}

/* -- pre-tokenizers */

static struct mbl_splitter *add_splitter(struct reader *r, enum mbl_split_kind kind, const char *place) {
    struct mbl_tokenizer *t = r->t;
    if (t->splitter_count == STEPS_MOST) {
        mbl_error_set(r->e, "%s: %s is the %dth pre-tokenizer; that is too many", r->name, place, STEPS_MOST + 1);
        return NULL;
    }
    if (t->splitter_count && t->splitters[t->splitter_count - 1].kind == MBL_SPLIT_BYTES) {
        mbl_error_set(r->e, "%s: %s comes after ByteLevel, which mbuild's tokenizers take only as the last pre-tokenizer", r->name, place);
        return NULL;
    }
    if (!t->splitters) t->splitters = mbl_arena_alloc(&t->arena, STEPS_MOST * sizeof *t->splitters);
    struct mbl_splitter *s = &t->splitters[t->splitter_count++];
    *s = (struct mbl_splitter){.kind = kind, .split = true, .behavior = MBL_SPLIT_ISOLATED};
    return s;
}

static int read_behavior(struct reader *r, const struct mbl_json *v, const char *place, enum mbl_split_behavior *out) {
    static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
    const char *name = mbl_json_get_string(v, "behavior");
    if (!name) return 0;
    for (size_t i = 0; i < COUNT(names); i++) {
        if (strcmp(names[i], name)) continue;
        *out = (enum mbl_split_behavior)i;
        return 0;
    }
    return refuse(r, place, "behavior", name);
}

static int splitter_bert(struct reader *r, const struct mbl_json *v, const char *place) {
    (void)v;
    return add_splitter(r, MBL_SPLIT_BERT, place) ? 0 : -1;
}

static int splitter_whitespace(struct reader *r, const struct mbl_json *v, const char *place) {
    (void)v;
    return add_splitter(r, MBL_SPLIT_WHITESPACE, place) ? 0 : -1;
}

static int splitter_white(struct reader *r, const struct mbl_json *v, const char *place) {
    (void)v;
    struct mbl_splitter *s = add_splitter(r, MBL_SPLIT_WHITE, place);
    if (!s) return -1;
    s->behavior = MBL_SPLIT_REMOVED;
    return 0;
}

static int splitter_punctuation(struct reader *r, const struct mbl_json *v, const char *place) {
    struct mbl_splitter *s = add_splitter(r, MBL_SPLIT_PUNCTUATION, place);
    return s ? read_behavior(r, v, place, &s->behavior) : -1;
}

static int splitter_digits(struct reader *r, const struct mbl_json *v, const char *place) {
    struct mbl_splitter *s = add_splitter(r, MBL_SPLIT_DIGITS, place);
    if (!s) return -1;
    s->behavior = mbl_json_get_bool(v, "individual_digits", false) ? MBL_SPLIT_ISOLATED : MBL_SPLIT_CONTIGUOUS;
    return 0;
}

static int splitter_split(struct reader *r, const struct mbl_json *v, const char *place) {
    const char *regex = mbl_json_get_string(mbl_json_get(v, "pattern"), "Regex");
    struct mbl_splitter *s = add_splitter(r, regex ? MBL_SPLIT_PATTERN : MBL_SPLIT_LITERAL, place);
    if (!s || read_behavior(r, v, place, &s->behavior)) return -1;
    s->invert = mbl_json_get_bool(v, "invert", false);
    if (!regex) return (s->text = read_plain_pattern(r, v, place, &s->text_length)) ? 0 : -1;
    s->match = mbl_split_pattern(regex);
    if (!s->match) {
        return mbl_error_set(r->e, "%s: %s.pattern.Regex is \"%.300s\"; mbuild's tokenizers know those of GPT-2, Llama 3 and Qwen 2",
                             r->name, place,
                             regex);
    }
    /* These match everything, so that only what becomes of matches counts. */
    if (s->behavior == MBL_SPLIT_ISOLATED || (s->behavior == MBL_SPLIT_REMOVED && s->invert)) return 0;
    return refuse(r, place, "behavior", mbl_json_get_string(v, "behavior"));
}

static int splitter_metaspace(struct reader *r, const struct mbl_json *v, const char *place) {
    static const char *const schemes[] = {"never", "first", "always"};
    struct mbl_splitter *s = add_splitter(r, MBL_SPLIT_METASPACE, place);
    const char *scheme = mbl_json_get_string(v, "prepend_scheme");
    size_t i = 0;
    if (!s || !(s->text = read_text(r, v, "replacement", place, &s->text_length))) return -1;
    if (!*s->text) return mbl_error_set(r->e, "%s: %s.replacement is empty; one character is expected", r->name, place);
    if (!scheme) scheme = "always";
    while (i < COUNT(schemes) && strcmp(schemes[i], scheme)) i++;
    if (i == COUNT(schemes)) return refuse(r, place, "prepend_scheme", scheme);
    s->prepend = mbl_json_get_bool(v, "add_prefix_space", true) ? (enum mbl_prepend)i : MBL_PREPEND_NEVER;
    s->split = mbl_json_get_bool(v, "split", true);
    s->behavior = MBL_SPLIT_NEXT;
    r->t->rewrites = true;
    if (s->prepend == MBL_PREPEND_FIRST) r->t->origins = true;
    return 0;
}

static int splitter_bytes(struct reader *r, const struct mbl_json *v, const char *place) {
    struct mbl_splitter *s = add_splitter(r, MBL_SPLIT_BYTES, place);
    if (!s) return -1;
    s->prefix_space = mbl_json_get_bool(v, "add_prefix_space", true);
    s->split = mbl_json_get_bool(v, "use_regex", true);
    s->match = mbl_split_pattern(MBL_GPT2_PATTERN);
    r->t->bytes = true;
    if (s->prefix_space) r->t->rewrites = true;
    if (!r->t->bpe) return mbl_error_set(r->e, "%s: %s is ByteLevel, which mbuild's tokenizers take only with the model BPE", r->name,
                                         place);
    return 0;
}

static int splitter_sequence(struct reader *r, const struct mbl_json *v, const char *place);

static const struct kind splitters[] = {
    {"BertPreTokenizer", splitter_bert}, {"Whitespace", splitter_whitespace},   {"WhitespaceSplit", splitter_white},
    {"ByteLevel", splitter_bytes},       {"Split", splitter_split},             {"Metaspace", splitter_metaspace},
    {"Digits", splitter_digits},         {"Punctuation", splitter_punctuation}, {"Sequence", splitter_sequence}};

static int splitter_sequence(struct reader *r, const struct mbl_json *v, const char *place) {
    return read_sequence(r, v, place, "pretokenizers", splitters, COUNT(splitters));
}

/* -- post-processors */

static struct mbl_frame_part *add_part(struct reader *r, struct mbl_frame *f, int sequence, uint8_t type) {
    struct mbl_frame_part *more = mbl_arena_alloc(&r->t->arena, (f->count + 1) * sizeof *more);
    if (f->count) memcpy(more, f->parts, f->count * sizeof *more);
    f->parts = more;
    more[f->count] = (struct mbl_frame_part){.sequence = sequence, .type = type};
    return &more[f->count++];
}

static void add_special(struct reader *r, struct mbl_frame *f, int32_t id, uint8_t type) {
    struct mbl_frame_part *p = add_part(r, f, -1, type);
    p->ids = mbl_arena_alloc(&r->t->arena, sizeof *p->ids);
    p->ids[0] = id;
    p->count = 1;
    f->added++;
}

static int read_id(struct reader *r, const struct mbl_json *v, const char *place, int32_t *out) {
    double id = mbl_json_number(v);
    if (!(id >= 0 && id < (double)r->t->size && id == (double)(int32_t)id && r->t->tokens[(int32_t)id]))
        return mbl_error_set(r->e, "%s: %s is no token's id", r->name, place);
    *out = (int32_t)id;
    return 0;
}

/* ["[CLS]", 101] */
static int read_frame_token(struct reader *r, const struct mbl_json *v, const char *key, const char *place, int32_t *id) {
    const struct mbl_json *pair = mbl_json_get(v, key);
    if (!pair || pair->type != MBL_JSON_LIST || pair->count != 2)
        return mbl_error_set(r->e, "%s: %s.%s is no token and id: [\"[CLS]\", 101] is expected", r->name, place, key);
    return read_id(r, pair->items[1], mbl_arena_printf(&r->t->arena, "%s.%s[1]", place, key), id);
}

static int processor_bert(struct reader *r, const struct mbl_json *v, const char *place) {
    struct mbl_frame *f = r->t->frames;
    int32_t cls, sep;
    if (read_frame_token(r, v, "cls", place, &cls) || read_frame_token(r, v, "sep", place, &sep)) return -1;
    f[0] = f[1] = (struct mbl_frame){0};
    for (int pair = 0; pair < 2; pair++) {
        add_special(r, &f[pair], cls, 0);
        add_part(r, &f[pair], 0, 0);
        add_special(r, &f[pair], sep, 0);
    }
    add_part(r, &f[1], 1, 1);
    add_special(r, &f[1], sep, 1);
    return 0;
}

static int processor_roberta(struct reader *r, const struct mbl_json *v, const char *place) {
    struct mbl_frame *f = r->t->frames;
    int32_t cls, sep;
    if (read_frame_token(r, v, "cls", place, &cls) || read_frame_token(r, v, "sep", place, &sep)) return -1;
    f[0] = f[1] = (struct mbl_frame){0};
    for (int pair = 0; pair < 2; pair++) {
        add_special(r, &f[pair], cls, 0);
        add_part(r, &f[pair], 0, 0);
        add_special(r, &f[pair], sep, 0);
    }
    add_special(r, &f[1], sep, 0);
    add_part(r, &f[1], 1, 0);
    add_special(r, &f[1], sep, 0);
    r->t->trim = mbl_json_get_bool(v, "trim_offsets", true);
    r->t->trim_prefix = mbl_json_get_bool(v, "add_prefix_space", true);
    return 0;
}

static int processor_bytes(struct reader *r, const struct mbl_json *v, const char *place) {
    (void)place;
    r->t->trim = mbl_json_get_bool(v, "trim_offsets", true);
    r->t->trim_prefix = mbl_json_get_bool(v, "add_prefix_space", true);
    return 0;
}

static int template_special(struct reader *r, const struct mbl_json *tokens, const struct mbl_json *piece, const char *place,
                            struct mbl_frame *f,
                            uint8_t type) {
    const char *id = mbl_json_get_string(piece, "id");
    const struct mbl_json *ids = id ? mbl_json_get(mbl_json_get(tokens, id), "ids") : NULL;
    if (!ids || ids->type != MBL_JSON_LIST || ids->count > 1024)
        return mbl_error_set(r->e, "%s: %s.id is no token that special_tokens has ids for", r->name, place);
    struct mbl_frame_part *p = add_part(r, f, -1, type);
    p->ids = mbl_arena_alloc(&r->t->arena, ids->count * sizeof *p->ids);
    p->count = ids->count;
    f->added += ids->count;
    for (size_t i = 0; i < ids->count; i++)
        if (read_id(r, ids->items[i], mbl_arena_printf(&r->t->arena, "post_processor.special_tokens[\"%.100s\"].ids[%zu]", id, i),
                    &p->ids[i])) return -1;
    return 0;
}

static int read_template(struct reader *r, const struct mbl_json *v, const char *place, const char *key, struct mbl_frame *f, bool pair) {
    const struct mbl_json *list = mbl_json_get(v, key), *tokens = mbl_json_get(v, "special_tokens");
    int seen[2] = {0};
    *f = (struct mbl_frame){0};
    if (!list || list->type != MBL_JSON_LIST || list->count > 1024) return mbl_error_set(r->e, "%s: %s.%s is missing or no list", r->name,
                                                                                         place, key);
    for (size_t i = 0; i < list->count; i++) {
        const struct mbl_json *sequence = mbl_json_get(list->items[i], "Sequence"), *special = mbl_json_get(list->items[i], "SpecialToken");
        const char *inner = mbl_arena_printf(&r->t->arena, "%s.%s[%zu]", place, key, i), *id = mbl_json_get_string(sequence, "id");
        int64_t type = mbl_json_get_int(sequence ? sequence : special, "type_id", 0);
        if (type < 0 || type > 255) return mbl_error_set(r->e, "%s: %s.type_id is %lld; 0 to 255 is expected", r->name, inner,
                                                         (long long)type);
        if (special) {
            if (template_special(r, tokens, special, inner, f, (uint8_t)type)) return -1;
            continue;
        }
        int which = id && !strcmp(id, "A") ? 0 : id && !strcmp(id, "B") && pair ? 1 : -1;
        if (which < 0 || seen[which]++)
            return mbl_error_set(r->e, "%s: %s is neither a SpecialToken nor the Sequence A%s for the first time", r->name, inner, pair
                                 ? " or B" : "");
        add_part(r, f, which, (uint8_t)type);
    }
    if (!seen[0] || (pair && !seen[1])) return mbl_error_set(r->e, "%s: %s.%s leaves a text out", r->name, place, key);
    return 0;
}

static int processor_template(struct reader *r, const struct mbl_json *v, const char *place) {
    struct mbl_frame *f = r->t->frames;
    return read_template(r, v, place, "single", &f[0], false) || read_template(r, v, place, "pair", &f[1], true) ? -1 : 0;
}

static int processor_sequence(struct reader *r, const struct mbl_json *v, const char *place);

static const struct kind processors[] = {{"BertProcessing", processor_bert},         {"TemplateProcessing", processor_template},
                                         {"ByteLevel", processor_bytes},             {"RobertaProcessing", processor_roberta},
                                         {"Sequence", processor_sequence}};

static int processor_sequence(struct reader *r, const struct mbl_json *v, const char *place) {
    return read_sequence(r, v, place, "processors", processors, COUNT(processors));
}

/* -- decoders */

static struct mbl_decoder *add_decoder(struct reader *r, enum mbl_decoder_kind kind, const char *place) {
    struct mbl_tokenizer *t = r->t;
    if (t->decoder_count == STEPS_MOST) {
        mbl_error_set(r->e, "%s: %s is the %dth decoder; that is too many", r->name, place, STEPS_MOST + 1);
        return NULL;
    }
    if (!t->decoders) t->decoders = mbl_arena_alloc(&t->arena, STEPS_MOST * sizeof *t->decoders);
    struct mbl_decoder *d = &t->decoders[t->decoder_count++];
    d->kind = kind;
    return d;
}

static int decoder_bytes(struct reader *r, const struct mbl_json *v, const char *place) {
    (void)v;
    return add_decoder(r, MBL_DECODE_BYTES, place) ? 0 : -1;
}

static int decoder_fallback(struct reader *r, const struct mbl_json *v, const char *place) {
    (void)v;
    return add_decoder(r, MBL_DECODE_FALLBACK, place) ? 0 : -1;
}

static int decoder_fuse(struct reader *r, const struct mbl_json *v, const char *place) {
    (void)v;
    return add_decoder(r, MBL_DECODE_FUSE, place) ? 0 : -1;
}

static int decoder_wordpiece(struct reader *r, const struct mbl_json *v, const char *place) {
    struct mbl_decoder *d = add_decoder(r, MBL_DECODE_WORDPIECE, place);
    if (!d || !(d->from = read_text(r, v, "prefix", place, &d->from_length))) return -1;
    d->cleanup = mbl_json_get_bool(v, "cleanup", true);
    return 0;
}

static int decoder_metaspace(struct reader *r, const struct mbl_json *v, const char *place) {
    struct mbl_decoder *d = add_decoder(r, MBL_DECODE_METASPACE, place);
    if (!d || !(d->from = read_text(r, v, "replacement", place, &d->from_length))) return -1;
    const char *scheme = mbl_json_get_string(v, "prepend_scheme");
    d->prepend = mbl_json_get_bool(v, "add_prefix_space", true) && !(scheme && !strcmp(scheme, "never"));
    if (!*d->from) return mbl_error_set(r->e, "%s: %s.replacement is empty; one character is expected", r->name, place);
    return 0;
}

static int decoder_strip(struct reader *r, const struct mbl_json *v, const char *place) {
    struct mbl_decoder *d = add_decoder(r, MBL_DECODE_STRIP, place);
    int64_t start = mbl_json_get_int(v, "start", 0), stop = mbl_json_get_int(v, "stop", 0);
    if (!d || !(d->from = read_text(r, v, "content", place, &d->from_length))) return -1;
    if (start < 0 || stop < 0 || !*d->from) return mbl_error_set(r->e, "%s: %s asks to strip less than nothing", r->name, place);
    d->start = (size_t)start;
    d->stop = (size_t)stop;
    return 0;
}

static int decoder_replace(struct reader *r, const struct mbl_json *v, const char *place) {
    struct mbl_decoder *d = add_decoder(r, MBL_DECODE_REPLACE, place);
    return d && (d->from = read_plain_pattern(r, v, place, &d->from_length)) && (d->to = read_text(r, v, "content", place, &d->to_length))
        ? 0 : -1;
}

static int decoder_suffix(struct reader *r, const struct mbl_json *v, const char *place) {
    struct mbl_decoder *d = add_decoder(r, MBL_DECODE_SUFFIX, place);
    if (!d || !(d->from = read_text(r, v, "suffix", place, &d->from_length))) return -1;
    return *d->from ? 0 : mbl_error_set(r->e, "%s: %s.suffix is empty", r->name, place);
}

static int decoder_sequence(struct reader *r, const struct mbl_json *v, const char *place);

static const struct kind decoders[] = {{"ByteLevel", decoder_bytes},       {"WordPiece", decoder_wordpiece},
    {"Metaspace", decoder_metaspace},
                                       {"ByteFallback", decoder_fallback}, {"Fuse", decoder_fuse},           {"Strip", decoder_strip},
                                       {"Replace", decoder_replace},       {"BPEDecoder", decoder_suffix},
                                             {"Sequence", decoder_sequence}};

static int decoder_sequence(struct reader *r, const struct mbl_json *v, const char *place) {
    return read_sequence(r, v, place, "decoders", decoders, COUNT(decoders));
}

/* -- the vocabulary */

static int read_vocabulary(struct reader *r, const struct mbl_json *model) {
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
static int read_added(struct reader *r) {
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
    struct reader r = {t, name, e};
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
    add_part(&r, &t->frames[0], 0, 0);
    add_part(&r, &t->frames[1], 0, 0);
    add_part(&r, &t->frames[1], 1, 1);
    if (read_vocabulary(&r, model) || read_added(&r)) return -1;
    if (read_step(&r, mbl_json_get(json, "normalizer"), "normalizer", normalizers, COUNT(normalizers))) return -1;
    if (read_step(&r, mbl_json_get(json, "pre_tokenizer"), "pre_tokenizer", splitters, COUNT(splitters))) return -1;
    if (read_step(&r, mbl_json_get(json, "post_processor"), "post_processor", processors, COUNT(processors))) return -1;
    if (read_step(&r, mbl_json_get(json, "decoder"), "decoder", decoders, COUNT(decoders))) return -1;
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
