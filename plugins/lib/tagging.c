/* tagging.c: see tagging.h. */
#include "tagging.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* -- schemes */

/* The letters of each scheme as it writes them, and what they mean. */
static const struct {
    const char *name, *letters, *places;
} schemes[] = {[MBL_PLAIN] = {"plain", "", ""},
               [MBL_IOB1] = {"iob1", "BI", "BI"},
               [MBL_IOB2] = {"iob2", "BI", "BI"},
               [MBL_BIOES] = {"bioes", "BIES", "BIES"},
               [MBL_BILOU] = {"bilou", "BILU", "BIES"}};
#define SCHEME_COUNT (sizeof schemes / sizeof *schemes)

const char *mbl_scheme_name(enum mbl_scheme s) {
    return schemes[s].name;
}

/* What the tag's letter means; 0: the scheme has no such tag. */
static char place_of(enum mbl_scheme s, const char *tag) {
    if (!strcmp(tag, "O")) return 'O';
    const char *at = *tag ? strchr(schemes[s].letters, *tag) : NULL;
    return at && (!tag[1] || tag[1] == '-') ? schemes[s].places[at - schemes[s].letters] : 0;
}

bool mbl_scheme_has(enum mbl_scheme s, const char *tag) {
    return s == MBL_PLAIN || place_of(s, tag);
}

enum mbl_scheme mbl_scheme_by_names(const char *const *tags, size_t count) {
    static const enum mbl_scheme candidates[] = {MBL_IOB2, MBL_BIOES, MBL_BILOU};
    for (size_t i = 0; i < sizeof candidates / sizeof *candidates; i++) {
        size_t typed = 0, fits = 0;
        for (size_t k = 0; k < count; k++) {
            bool outside = !strcmp(tags[k], "O");
            typed += !outside && tags[k][0] && tags[k][1] == '-';
            fits += outside || (place_of(candidates[i], tags[k]) && tags[k][1] == '-');
        }
        if (typed && fits == count) return candidates[i];
    }
    return MBL_PLAIN;
}

/* -- the tags of a schema */

static int by_bytes(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* What stands behind the letter; a tag without a type has "_", as seqeval calls it. */
static const char *type_of(const char *tag) {
    return tag[1] == '-' && tag[2] ? tag + 2 : "_";
}

static void find_types(struct mbl_tagset *t, const struct mbl_schema *s, struct mbl_arena *a) {
    t->types = mbl_arena_alloc(a, (t->count + 1) * sizeof *t->types);
    for (size_t i = 0; i < t->count; i++)
        if (t->tags[i].place && t->tags[i].place != 'O') t->types[t->type_count++] = type_of(s->classes[i]);
    if (t->type_count) qsort(t->types, t->type_count, sizeof *t->types, by_bytes);
    size_t kept = 0;
    for (size_t i = 0; i < t->type_count; i++)
        if (!i || strcmp(t->types[i], t->types[kept - 1])) t->types[kept++] = t->types[i];
    t->type_count = kept;
    for (size_t i = 0; i < t->count; i++)
        for (size_t k = 0; k < kept && t->tags[i].place != 'O' && t->tags[i].place; k++)
            if (!strcmp(t->types[k], type_of(s->classes[i]))) t->tags[i].type = (int32_t)k;
}

void mbl_tagset_open(const struct mbl_schema *s, struct mbl_arena *a, struct mbl_tagset *out) {
    struct mbl_tagset *t = out;
    *t = (struct mbl_tagset){.count = s->class_count, .outside = -1};
    t->scheme = mbl_scheme_by_names(s->classes, s->class_count);
    for (size_t i = 0; s->scheme && i < SCHEME_COUNT; i++)
        if (!strcmp(s->scheme, schemes[i].name)) t->scheme = (enum mbl_scheme)i;
    t->tags = mbl_arena_alloc(a, (t->count + 1) * sizeof *t->tags);
    t->inner = mbl_arena_alloc(a, (t->count + 1) * sizeof *t->inner);
    for (size_t i = 0; i < t->count; i++) {
        t->tags[i] = (struct mbl_tag){place_of(t->scheme, s->classes[i]), -1};
        t->inner[i] = (int32_t)i;
        if (t->tags[i].place == 'O') t->outside = (int32_t)i;
    }
    find_types(t, s, a);
    for (size_t i = 0; i < t->count; i++)
        for (size_t k = 0; k < t->count && (t->tags[i].place == 'B' || t->tags[i].place == 'S'); k++)
            if (t->tags[k].place == 'I' && t->tags[k].type == t->tags[i].type) t->inner[i] = (int32_t)k;
}

/* -- entities */

static const struct mbl_tag nothing = {'O', -1};

/* The tag at i; in front of the row and behind it there is nothing. */
static struct mbl_tag tag_at(const struct mbl_tagset *set, const int32_t *tags, int64_t i, int64_t n) {
    if (i < 0 || i >= n || tags[i] < 0 || !set->tags[tags[i]].place) return nothing;
    return set->tags[tags[i]];
}

static bool among(char c, const char *set) {
    return strchr(set, c) != NULL;
}

/* conlleval's rules, with those for E and S that seqeval added. */
static bool loose_end(struct mbl_tag before, struct mbl_tag now) {
    if (before.place == 'O') return false;
    return among(before.place, "ES") || among(now.place, "BSO") || before.type != now.type;
}
static bool loose_start(struct mbl_tag before, struct mbl_tag now) {
    if (now.place == 'O') return false;
    return among(now.place, "BS") || among(before.place, "OES") || before.type != now.type;
}

static size_t loose_entities(const struct mbl_tagset *set, const int32_t *tags, int64_t n, struct mbl_entity *out) {
    struct mbl_tag before = nothing;
    int64_t begin = 0;
    size_t count = 0;
    for (int64_t i = 0; i <= n; i++) {
        struct mbl_tag now = tag_at(set, tags, i, n);
        if (loose_end(before, now)) out[count++] = (struct mbl_entity){begin, i, before.type};
        if (loose_start(before, now)) begin = i;
        before = now;
    }
    return count;
}

/* Which pairs of tags begin an entity, are inside of one, or have one end between them. Types: '=' the same, '!' others, '*' any; of
 * places '*' is any too. */
struct pattern {
    char before, now, types;
};
struct rules {
    struct pattern start[6], inside[6], end[6];
};
static const struct rules iob1_rules = {
    {{'O', 'I', '*'}, {'I', 'I', '!'}, {'B', 'I', '*'}, {'I', 'B', '='}, {'B', 'B', '='}, {0}},
    {{'B', 'I', '='}, {'I', 'I', '='}, {0}},
    {{'I', 'I', '!'}, {'I', 'O', '*'}, {'I', 'B', '*'}, {'B', 'O', '*'}, {'B', 'I', '!'}, {'B', 'B', '='}}};
static const struct rules iob2_rules = {
    {{'*', 'B', '*'}, {0}},
    {{'B', 'I', '='}, {'I', 'I', '='}, {0}},
    {{'I', 'O', '*'}, {'I', 'I', '!'}, {'I', 'B', '*'}, {'B', 'O', '*'}, {'B', 'I', '!'}, {'B', 'B', '*'}}};
static const struct rules long_rules = {
    {{'*', 'B', '*'}, {'*', 'S', '*'}, {0}},
    {{'B', 'I', '='}, {'B', 'E', '='}, {'I', 'I', '='}, {'I', 'E', '='}, {0}},
    {{'S', '*', '*'}, {'E', '*', '*'}, {0}}};

static bool matches(const struct pattern *p, struct mbl_tag before, struct mbl_tag now) {
    for (int i = 0; i < 6 && p[i].before; i++) {
        bool same = before.type == now.type;
        if (p[i].before != '*' && p[i].before != before.place) continue;
        if (p[i].now != '*' && p[i].now != now.place) continue;
        if (p[i].types == '*' || (p[i].types == '=') == same) return true;
    }
    return false;
}

static size_t strict_entities(const struct mbl_tagset *set, const int32_t *tags, int64_t n, struct mbl_entity *out) {
    const struct rules *r = set->scheme == MBL_IOB1 ? &iob1_rules : set->scheme == MBL_IOB2 ? &iob2_rules : &long_rules;
    size_t count = 0;
    for (int64_t i = 0; i < n;) {
        struct mbl_tag before = tag_at(set, tags, i - 1, n), now = tag_at(set, tags, i, n);
        if (!matches(r->start, before, now)) {
            i++;
            continue;
        }
        int64_t end = i + 1;
        while (end < n && matches(r->inside, tag_at(set, tags, end - 1, n), tag_at(set, tags, end, n))) end++;
        if (matches(r->end, tag_at(set, tags, end - 1, n), tag_at(set, tags, end, n)))
            out[count++] = (struct mbl_entity){i, end, now.type};
        i = end;
    }
    return count;
}

size_t mbl_entities(const struct mbl_tagset *set, const int32_t *tags, int64_t n, bool strict, struct mbl_entity *out) {
    if (set->scheme == MBL_PLAIN) return 0;
    return strict ? strict_entities(set, tags, n, out) : loose_entities(set, tags, n, out);
}

/* -- scores */

/* Adds a row's entities: both lists are in order, and neither has two that begin at the same word. */
static void count_entities(const struct mbl_entity *truth, size_t m, const struct mbl_entity *guess, size_t n,
                           struct mbl_class_score *scores) {
    for (size_t i = 0; i < m; i++) scores[truth[i].type].support++;
    for (size_t i = 0; i < n; i++) scores[guess[i].type].predicted++;
    for (size_t i = 0, k = 0; i < m && k < n;) {
        if (truth[i].begin == guess[k].begin) scores[truth[i].type].hits += truth[i].end == guess[k].end && truth[i].type == guess[k].type;
        if (truth[i].begin <= guess[k].begin) i++;
        else k++;
    }
}

static int score_entities(const struct mbl_tagset *set, int64_t row_count, const int64_t *rows, const int32_t *tags, const int32_t *guesses,
                          bool strict, struct mbl_class_score *scores, struct mbl_error *e) {
    int64_t longest = 1;
    void *block;
    for (int64_t r = 0; r < row_count; r++)
        if (rows[r + 1] - rows[r] > longest) longest = rows[r + 1] - rows[r];
    if (mbl_try_alloc(&block, 2 * (uint64_t)longest, sizeof(struct mbl_entity), "entities", e)) return -1;
    struct mbl_entity *truth = block, *guess = truth + longest;
    for (int64_t r = 0; r < row_count; r++) {
        int64_t first = rows[r], n = rows[r + 1] - first;
        size_t m = mbl_entities(set, tags + first, n, strict, truth), k = mbl_entities(set, guesses + first, n, strict, guess);
        count_entities(truth, m, guess, k, scores);
    }
    free(block);
    return 0;
}

/* Each tag by itself; a word that was cut off was given none. */
static void score_words(int64_t words, const int32_t *tags, const int32_t *guesses, struct mbl_class_score *scores) {
    for (int64_t i = 0; i < words; i++) {
        scores[tags[i]].support++;
        if (guesses[i] >= 0) scores[guesses[i]].predicted++;
        scores[tags[i]].hits += tags[i] == guesses[i];
    }
}

/* Types that neither truth nor guesses have are no part of the averages, as in seqeval. */
static void drop_absent(struct mbl_scores *s, const char **names) {
    size_t kept = 0;
    for (size_t i = 0; i < s->class_count; i++) {
        if (!s->classes[i].support && !s->classes[i].predicted) continue;
        s->classes[kept] = s->classes[i];
        names[kept++] = s->class_names[i];
    }
    s->class_count = kept;
    s->class_names = names;
}

int mbl_score_tags(const struct mbl_tagset *set, const struct mbl_schema *schema, int64_t row_count, const int64_t *rows,
                   const int32_t *tags, const int32_t *guesses, int64_t judged, double loss_sum, struct mbl_arena *a,
                   struct mbl_scores *out, struct mbl_error *e) {
    bool plain = set->scheme == MBL_PLAIN;
    int64_t words = rows[row_count], hits = 0;
    struct mbl_class_score *strict = mbl_arena_alloc(a, (set->type_count + 1) * sizeof *strict);
    *out = (struct mbl_scores){.problem = MBL_TOKEN_CLASSES, .rows = row_count, .tokens = words};
    if (!judged) return mbl_error_set(e, "there is no word to judge by");
    if (!isfinite(loss_sum)) return mbl_error_set(e, "the model's answers are no finite numbers");
    for (int64_t i = 0; i < words; i++) hits += tags[i] == guesses[i];
    out->accuracy = (double)hits / (double)words;
    out->loss = loss_sum / (double)judged;
    out->scheme = mbl_scheme_name(set->scheme);
    out->class_count = plain ? set->count : set->type_count;
    out->class_names = plain ? schema->classes : (const char *const *)set->types;
    out->classes = mbl_arena_alloc(a, (out->class_count + 1) * sizeof *out->classes);
    out->precision_strict = out->recall_strict = out->f1_strict = NAN;
    if (plain) {
        score_words(words, tags, guesses, out->classes);
    } else {
        if (score_entities(set, row_count, rows, tags, guesses, false, out->classes, e) ||
            score_entities(set, row_count, rows, tags, guesses, true, strict, e))
            return -1;
        struct mbl_scores other = {.class_count = set->type_count, .classes = strict};
        mbl_score_averages(&other);
        out->precision_strict = other.precision_micro;
        out->recall_strict = other.recall_micro;
        out->f1_strict = other.f1_micro;
        drop_absent(out, mbl_arena_alloc(a, (set->type_count + 1) * sizeof(char *)));
    }
    mbl_score_averages(out);
    return 0;
}
