/* tokenizer_read_text.c: what tokenizer.json does to a text before its model sees words: normalizers and pre-tokenizers; see
 * tokenizer_steps.h. */
#include "tokenizer_steps.h"

#include <string.h>

/* -- normalizers */

static struct mbl_normalizer *add_normalizer(struct mbl_step_reader *r, enum mbl_normalizer_kind kind, const char *place) {
    struct mbl_tokenizer *t = r->t;
    if (t->normalizer_count == MBL_STEPS_MOST) {
        mbl_error_set(r->e, "%s: %s is the %dth normalizer; that is too many", r->name, place, MBL_STEPS_MOST + 1);
        return NULL;
    }
    if (!t->normalizers) t->normalizers = mbl_arena_alloc(&t->arena, MBL_STEPS_MOST * sizeof *t->normalizers);
    struct mbl_normalizer *n = &t->normalizers[t->normalizer_count++];
    n->kind = kind;
    return n;
}

static int normalizer_bert(struct mbl_step_reader *r, const struct mbl_json *v, const char *place) {
    struct mbl_normalizer *n = add_normalizer(r, MBL_NORMALIZE_BERT, place);
    if (!n) return -1;
    n->clean = mbl_json_get_bool(v, "clean_text", true);
    n->cjk = mbl_json_get_bool(v, "handle_chinese_chars", true);
    n->lower = mbl_json_get_bool(v, "lowercase", true);
    n->accents = mbl_json_get_bool(v, "strip_accents", n->lower);
    return 0;
}

static int normalizer_form(struct mbl_step_reader *r, const char *place, enum mbl_unicode_form form) {
    struct mbl_normalizer *n = add_normalizer(r, MBL_NORMALIZE_FORM, place);
    if (!n) return -1;
    n->form = form;
    return 0;
}

static int normalizer_nfc(struct mbl_step_reader *r, const struct mbl_json *v, const char *place) {
    (void)v;
    return normalizer_form(r, place, MBL_UNICODE_NFC);
}

static int normalizer_nfd(struct mbl_step_reader *r, const struct mbl_json *v, const char *place) {
    (void)v;
    return normalizer_form(r, place, MBL_UNICODE_NFD);
}

static int normalizer_nfkc(struct mbl_step_reader *r, const struct mbl_json *v, const char *place) {
    (void)v;
    return normalizer_form(r, place, MBL_UNICODE_NFKC);
}

static int normalizer_nfkd(struct mbl_step_reader *r, const struct mbl_json *v, const char *place) {
    (void)v;
    return normalizer_form(r, place, MBL_UNICODE_NFKD);
}

static int normalizer_lowercase(struct mbl_step_reader *r, const struct mbl_json *v, const char *place) {
    (void)v;
    return add_normalizer(r, MBL_NORMALIZE_LOWER, place) ? 0 : -1;
}

static int normalizer_strip_accents(struct mbl_step_reader *r, const struct mbl_json *v, const char *place) {
    (void)v;
    return add_normalizer(r, MBL_NORMALIZE_STRIP_ACCENTS, place) ? 0 : -1;
}

static int normalizer_strip(struct mbl_step_reader *r, const struct mbl_json *v, const char *place) {
    struct mbl_normalizer *n = add_normalizer(r, MBL_NORMALIZE_STRIP, place);
    if (!n) return -1;
    n->left = mbl_json_get_bool(v, "strip_left", true);
    n->right = mbl_json_get_bool(v, "strip_right", true);
    return 0;
}

static int normalizer_prepend(struct mbl_step_reader *r, const struct mbl_json *v, const char *place) {
    struct mbl_normalizer *n = add_normalizer(r, MBL_NORMALIZE_PREPEND, place);
    return n && (n->to = mbl_step_text(r, v, "prepend", place, &n->to_length)) ? 0 : -1;
}

static int normalizer_replace(struct mbl_step_reader *r, const struct mbl_json *v, const char *place) {
    struct mbl_normalizer *n = add_normalizer(r, MBL_NORMALIZE_REPLACE, place);
    return n && (n->from = mbl_step_pattern(r, v, place, &n->from_length)) && (n->to = mbl_step_text(r, v, "content", place, &n->to_length))
        ? 0 : -1;
}

static int normalizer_sequence(struct mbl_step_reader *r, const struct mbl_json *v, const char *place);

static const struct mbl_step_kind normalizers[] = {
    {"BertNormalizer", normalizer_bert},   {"NFC", normalizer_nfc},          {"NFD", normalizer_nfd},
    {"NFKC", normalizer_nfkc},             {"NFKD", normalizer_nfkd},        {"Lowercase", normalizer_lowercase},
    {"StripAccents", normalizer_strip_accents}, {"Strip", normalizer_strip}, {"Prepend", normalizer_prepend},
    {"Replace", normalizer_replace},       {"Sequence", normalizer_sequence}};

static int normalizer_sequence(struct mbl_step_reader *r, const struct mbl_json *v, const char *place) {
    return mbl_step_read_all(r, v, place, "normalizers", normalizers, MBL_COUNT(normalizers));
}

/* -- pre-tokenizers */

static struct mbl_splitter *add_splitter(struct mbl_step_reader *r, enum mbl_split_kind kind, const char *place) {
    struct mbl_tokenizer *t = r->t;
    if (t->splitter_count == MBL_STEPS_MOST) {
        mbl_error_set(r->e, "%s: %s is the %dth pre-tokenizer; that is too many", r->name, place, MBL_STEPS_MOST + 1);
        return NULL;
    }
    if (t->splitter_count && t->splitters[t->splitter_count - 1].kind == MBL_SPLIT_BYTES) {
        mbl_error_set(r->e, "%s: %s comes after ByteLevel, which mbuild's tokenizers take only as the last pre-tokenizer", r->name, place);
        return NULL;
    }
    if (!t->splitters) t->splitters = mbl_arena_alloc(&t->arena, MBL_STEPS_MOST * sizeof *t->splitters);
    struct mbl_splitter *s = &t->splitters[t->splitter_count++];
    *s = (struct mbl_splitter){.kind = kind, .split = true, .behavior = MBL_SPLIT_ISOLATED};
    return s;
}

static int read_behavior(struct mbl_step_reader *r, const struct mbl_json *v, const char *place, enum mbl_split_behavior *out) {
    static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
    const char *name = mbl_json_get_string(v, "behavior");
    if (!name) return 0;
    for (size_t i = 0; i < MBL_COUNT(names); i++) {
        if (strcmp(names[i], name)) continue;
        *out = (enum mbl_split_behavior)i;
        return 0;
    }
    return mbl_step_refuse(r, place, "behavior", name);
}

static int splitter_bert(struct mbl_step_reader *r, const struct mbl_json *v, const char *place) {
    (void)v;
    return add_splitter(r, MBL_SPLIT_BERT, place) ? 0 : -1;
}

static int splitter_whitespace(struct mbl_step_reader *r, const struct mbl_json *v, const char *place) {
    (void)v;
    return add_splitter(r, MBL_SPLIT_WHITESPACE, place) ? 0 : -1;
}

static int splitter_white(struct mbl_step_reader *r, const struct mbl_json *v, const char *place) {
    (void)v;
    struct mbl_splitter *s = add_splitter(r, MBL_SPLIT_WHITE, place);
    if (!s) return -1;
    s->behavior = MBL_SPLIT_REMOVED;
    return 0;
}

static int splitter_punctuation(struct mbl_step_reader *r, const struct mbl_json *v, const char *place) {
    struct mbl_splitter *s = add_splitter(r, MBL_SPLIT_PUNCTUATION, place);
    return s ? read_behavior(r, v, place, &s->behavior) : -1;
}

static int splitter_digits(struct mbl_step_reader *r, const struct mbl_json *v, const char *place) {
    struct mbl_splitter *s = add_splitter(r, MBL_SPLIT_DIGITS, place);
    if (!s) return -1;
    s->behavior = mbl_json_get_bool(v, "individual_digits", false) ? MBL_SPLIT_ISOLATED : MBL_SPLIT_CONTIGUOUS;
    return 0;
}

static int splitter_split(struct mbl_step_reader *r, const struct mbl_json *v, const char *place) {
    const char *regex = mbl_json_get_string(mbl_json_get(v, "pattern"), "Regex");
    struct mbl_splitter *s = add_splitter(r, regex ? MBL_SPLIT_PATTERN : MBL_SPLIT_LITERAL, place);
    if (!s || read_behavior(r, v, place, &s->behavior)) return -1;
    s->invert = mbl_json_get_bool(v, "invert", false);
    if (!regex) return (s->text = mbl_step_pattern(r, v, place, &s->text_length)) ? 0 : -1;
    s->match = mbl_split_pattern(regex);
    if (!s->match) {
        return mbl_error_set(r->e, "%s: %s.pattern.Regex is \"%.300s\"; mbuild's tokenizers know those of GPT-2, Llama 3 and Qwen 2",
                             r->name, place,
                             regex);
    }
    /* These match everything, so that only what becomes of matches counts. */
    if (s->behavior == MBL_SPLIT_ISOLATED || (s->behavior == MBL_SPLIT_REMOVED && s->invert)) return 0;
    return mbl_step_refuse(r, place, "behavior", mbl_json_get_string(v, "behavior"));
}

static int splitter_metaspace(struct mbl_step_reader *r, const struct mbl_json *v, const char *place) {
    static const char *const schemes[] = {"never", "first", "always"};
    struct mbl_splitter *s = add_splitter(r, MBL_SPLIT_METASPACE, place);
    const char *scheme = mbl_json_get_string(v, "prepend_scheme");
    size_t i = 0;
    if (!s || !(s->text = mbl_step_text(r, v, "replacement", place, &s->text_length))) return -1;
    if (!*s->text) return mbl_error_set(r->e, "%s: %s.replacement is empty; one character is expected", r->name, place);
    if (!scheme) scheme = "always";
    while (i < MBL_COUNT(schemes) && strcmp(schemes[i], scheme)) i++;
    if (i == MBL_COUNT(schemes)) return mbl_step_refuse(r, place, "prepend_scheme", scheme);
    s->prepend = mbl_json_get_bool(v, "add_prefix_space", true) ? (enum mbl_prepend)i : MBL_PREPEND_NEVER;
    s->split = mbl_json_get_bool(v, "split", true);
    s->behavior = MBL_SPLIT_NEXT;
    r->t->rewrites = true;
    if (s->prepend == MBL_PREPEND_FIRST) r->t->origins = true;
    return 0;
}

static int splitter_bytes(struct mbl_step_reader *r, const struct mbl_json *v, const char *place) {
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

static int splitter_sequence(struct mbl_step_reader *r, const struct mbl_json *v, const char *place);

static const struct mbl_step_kind splitters[] = {
    {"BertPreTokenizer", splitter_bert}, {"Whitespace", splitter_whitespace},   {"WhitespaceSplit", splitter_white},
    {"ByteLevel", splitter_bytes},       {"Split", splitter_split},             {"Metaspace", splitter_metaspace},
    {"Digits", splitter_digits},         {"Punctuation", splitter_punctuation}, {"Sequence", splitter_sequence}};

static int splitter_sequence(struct mbl_step_reader *r, const struct mbl_json *v, const char *place) {
    return mbl_step_read_all(r, v, place, "pretokenizers", splitters, MBL_COUNT(splitters));
}

int mbl_read_normalizer(struct mbl_step_reader *r, const struct mbl_json *v) {
    return mbl_step_read(r, v, "normalizer", normalizers, MBL_COUNT(normalizers));
}

int mbl_read_splitter(struct mbl_step_reader *r, const struct mbl_json *v) {
    return mbl_step_read(r, v, "pre_tokenizer", splitters, MBL_COUNT(splitters));
}
