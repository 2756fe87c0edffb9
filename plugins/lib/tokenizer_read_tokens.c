/* tokenizer_read_tokens.c: what tokenizer.json does with a model's tokens: the frame of special tokens around them, and how they become
 * text again; see tokenizer_steps.h. */
#include "tokenizer_steps.h"

#include <string.h>

/* -- post-processors */

static struct mbl_frame_part *add_part(struct mbl_step_reader *r, struct mbl_frame *f, int sequence, uint8_t type) {
    struct mbl_frame_part *more = mbl_arena_alloc(&r->t->arena, (f->count + 1) * sizeof *more);
    if (f->count) memcpy(more, f->parts, f->count * sizeof *more);
    f->parts = more;
    more[f->count] = (struct mbl_frame_part){.sequence = sequence, .type = type};
    return &more[f->count++];
}

static void add_special(struct mbl_step_reader *r, struct mbl_frame *f, int32_t id, uint8_t type) {
    struct mbl_frame_part *p = add_part(r, f, -1, type);
    p->ids = mbl_arena_alloc(&r->t->arena, sizeof *p->ids);
    p->ids[0] = id;
    p->count = 1;
    f->added++;
}

static int read_id(struct mbl_step_reader *r, const struct mbl_json *v, const char *place, int32_t *out) {
    double id = mbl_json_number(v);
    if (!(id >= 0 && id < (double)r->t->size && id == (double)(int32_t)id && r->t->tokens[(int32_t)id]))
        return mbl_error_set(r->e, "%s: %s is no token's id", r->name, place);
    *out = (int32_t)id;
    return 0;
}

/* ["[CLS]", 101] */
static int read_frame_token(struct mbl_step_reader *r, const struct mbl_json *v, const char *key, const char *place, int32_t *id) {
    const struct mbl_json *pair = mbl_json_get(v, key);
    if (!pair || pair->type != MBL_JSON_LIST || pair->count != 2)
        return mbl_error_set(r->e, "%s: %s.%s is no token and id: [\"[CLS]\", 101] is expected", r->name, place, key);
    return read_id(r, pair->items[1], mbl_arena_printf(&r->t->arena, "%s.%s[1]", place, key), id);
}

static int processor_bert(struct mbl_step_reader *r, const struct mbl_json *v, const char *place) {
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

static int processor_roberta(struct mbl_step_reader *r, const struct mbl_json *v, const char *place) {
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

static int processor_bytes(struct mbl_step_reader *r, const struct mbl_json *v, const char *place) {
    (void)place;
    r->t->trim = mbl_json_get_bool(v, "trim_offsets", true);
    r->t->trim_prefix = mbl_json_get_bool(v, "add_prefix_space", true);
    return 0;
}

static int template_special(struct mbl_step_reader *r, const struct mbl_json *tokens, const struct mbl_json *piece, const char *place,
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

static int read_template(struct mbl_step_reader *r, const struct mbl_json *v, const char *place, const char *key, struct mbl_frame *f,
                         bool pair) {
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

static int processor_template(struct mbl_step_reader *r, const struct mbl_json *v, const char *place) {
    struct mbl_frame *f = r->t->frames;
    return read_template(r, v, place, "single", &f[0], false) || read_template(r, v, place, "pair", &f[1], true) ? -1 : 0;
}

static int processor_sequence(struct mbl_step_reader *r, const struct mbl_json *v, const char *place);

static const struct mbl_step_kind processors[] = {{"BertProcessing", processor_bert},         {"TemplateProcessing", processor_template},
                                         {"ByteLevel", processor_bytes},             {"RobertaProcessing", processor_roberta},
                                         {"Sequence", processor_sequence}};

static int processor_sequence(struct mbl_step_reader *r, const struct mbl_json *v, const char *place) {
    return mbl_step_read_all(r, v, place, "processors", processors, MBL_COUNT(processors));
}

/* -- decoders */

static struct mbl_decoder *add_decoder(struct mbl_step_reader *r, enum mbl_decoder_kind kind, const char *place) {
    struct mbl_tokenizer *t = r->t;
    if (t->decoder_count == MBL_STEPS_MOST) {
        mbl_error_set(r->e, "%s: %s is the %dth decoder; that is too many", r->name, place, MBL_STEPS_MOST + 1);
        return NULL;
    }
    if (!t->decoders) t->decoders = mbl_arena_alloc(&t->arena, MBL_STEPS_MOST * sizeof *t->decoders);
    struct mbl_decoder *d = &t->decoders[t->decoder_count++];
    d->kind = kind;
    return d;
}

static int decoder_bytes(struct mbl_step_reader *r, const struct mbl_json *v, const char *place) {
    (void)v;
    return add_decoder(r, MBL_DECODE_BYTES, place) ? 0 : -1;
}

static int decoder_fallback(struct mbl_step_reader *r, const struct mbl_json *v, const char *place) {
    (void)v;
    return add_decoder(r, MBL_DECODE_FALLBACK, place) ? 0 : -1;
}

static int decoder_fuse(struct mbl_step_reader *r, const struct mbl_json *v, const char *place) {
    (void)v;
    return add_decoder(r, MBL_DECODE_FUSE, place) ? 0 : -1;
}

static int decoder_wordpiece(struct mbl_step_reader *r, const struct mbl_json *v, const char *place) {
    struct mbl_decoder *d = add_decoder(r, MBL_DECODE_WORDPIECE, place);
    if (!d || !(d->from = mbl_step_text(r, v, "prefix", place, &d->from_length))) return -1;
    d->cleanup = mbl_json_get_bool(v, "cleanup", true);
    return 0;
}

static int decoder_metaspace(struct mbl_step_reader *r, const struct mbl_json *v, const char *place) {
    struct mbl_decoder *d = add_decoder(r, MBL_DECODE_METASPACE, place);
    if (!d || !(d->from = mbl_step_text(r, v, "replacement", place, &d->from_length))) return -1;
    const char *scheme = mbl_json_get_string(v, "prepend_scheme");
    d->prepend = mbl_json_get_bool(v, "add_prefix_space", true) && !(scheme && !strcmp(scheme, "never"));
    if (!*d->from) return mbl_error_set(r->e, "%s: %s.replacement is empty; one character is expected", r->name, place);
    return 0;
}

static int decoder_strip(struct mbl_step_reader *r, const struct mbl_json *v, const char *place) {
    struct mbl_decoder *d = add_decoder(r, MBL_DECODE_STRIP, place);
    int64_t start = mbl_json_get_int(v, "start", 0), stop = mbl_json_get_int(v, "stop", 0);
    if (!d || !(d->from = mbl_step_text(r, v, "content", place, &d->from_length))) return -1;
    if (start < 0 || stop < 0 || !*d->from) return mbl_error_set(r->e, "%s: %s asks to strip less than nothing", r->name, place);
    d->start = (size_t)start;
    d->stop = (size_t)stop;
    return 0;
}

static int decoder_replace(struct mbl_step_reader *r, const struct mbl_json *v, const char *place) {
    struct mbl_decoder *d = add_decoder(r, MBL_DECODE_REPLACE, place);
    return d && (d->from = mbl_step_pattern(r, v, place, &d->from_length)) && (d->to = mbl_step_text(r, v, "content", place, &d->to_length))
        ? 0 : -1;
}

static int decoder_suffix(struct mbl_step_reader *r, const struct mbl_json *v, const char *place) {
    struct mbl_decoder *d = add_decoder(r, MBL_DECODE_SUFFIX, place);
    if (!d || !(d->from = mbl_step_text(r, v, "suffix", place, &d->from_length))) return -1;
    return *d->from ? 0 : mbl_error_set(r->e, "%s: %s.suffix is empty", r->name, place);
}

static int decoder_sequence(struct mbl_step_reader *r, const struct mbl_json *v, const char *place);

static const struct mbl_step_kind decoders[] = {{"ByteLevel", decoder_bytes},       {"WordPiece", decoder_wordpiece},
    {"Metaspace", decoder_metaspace},
                                       {"ByteFallback", decoder_fallback}, {"Fuse", decoder_fuse},           {"Strip", decoder_strip},
                                       {"Replace", decoder_replace},       {"BPEDecoder", decoder_suffix},
                                             {"Sequence", decoder_sequence}};

static int decoder_sequence(struct mbl_step_reader *r, const struct mbl_json *v, const char *place) {
    return mbl_step_read_all(r, v, place, "decoders", decoders, MBL_COUNT(decoders));
}

/* -- from outside */

void mbl_default_frames(struct mbl_step_reader *r) {
    add_part(r, &r->t->frames[0], 0, 0);
    add_part(r, &r->t->frames[1], 0, 0);
    add_part(r, &r->t->frames[1], 1, 1);
}

int mbl_read_processor(struct mbl_step_reader *r, const struct mbl_json *v) {
    return mbl_step_read(r, v, "post_processor", processors, MBL_COUNT(processors));
}

int mbl_read_decoder(struct mbl_step_reader *r, const struct mbl_json *v) {
    return mbl_step_read(r, v, "decoder", decoders, MBL_COUNT(decoders));
}
