/* tagging.h: tags of words: what they say of entities, and how good guessed ones are.
 *
 * A tag is plain (a part of speech), or it marks its word's place in an entity: B-PER begins a person, I-PER goes on, O is outside, and,
 * in longer schemes, E- (or L-) ends one and S- (or U-) is one by itself. Entities are read from tags in two ways, both those of seqeval:
 *   as conlleval (Tjong Kim Sang, CoNLL-2000) does it: an entity of another type, or behind a gap, begins even where no B- stands;
 *   strictly: it counts only if it is written as the scheme wants it.
 */
#ifndef MBL_TAGGING_H
#define MBL_TAGGING_H

#include "metrics.h"

enum mbl_scheme { MBL_PLAIN, MBL_IOB1, MBL_IOB2, MBL_BIOES, MBL_BILOU };
#define MBL_SCHEMES "plain", "iob1", "iob2", "bioes", "bilou"

MBL_EXPORT const char *mbl_scheme_name(enum mbl_scheme s);
/* By the tags' names: MBL_PLAIN unless all of them are O or a letter of a scheme, a hyphen and a type; IOB2 where IOB1 would do too. */
MBL_EXPORT enum mbl_scheme mbl_scheme_by_names(const char *const *tags, size_t count);
/* Whether the scheme has such a tag. */
MBL_EXPORT bool mbl_scheme_has(enum mbl_scheme s, const char *tag);

/* The tags of a schema, taken apart. */
struct mbl_tag {
    char place;                  /* 'B', 'I', 'E', 'S' or 'O', whatever the scheme's letters; 0: plain */
    int32_t type;                /* index into `types`; -1 of O and of plain tags */
};
struct mbl_tagset {
    enum mbl_scheme scheme;
    struct mbl_tag *tags;        /* [count] by class index */
    size_t count;
    const char **types;          /* of entities, by bytes; plain: none */
    size_t type_count;
    int32_t outside;             /* the class O; -1: there is none */
    int32_t *inner;              /* [count] the tag of a word's later parts: I-PER of B-PER, itself where there is no such */
};
/* What the schema says, or else what its class names do; of MBL_TAGGING, or any with classes. */
MBL_EXPORT void mbl_tagset_open(const struct mbl_schema *schema, struct mbl_arena *a, struct mbl_tagset *out);

struct mbl_entity {
    int64_t begin, end;          /* words begin … end - 1 */
    int32_t type;
};
/* The entities of a row of n tags, in `out`, which has room for n; returns how many. -1 among the tags is as O. */
MBL_EXPORT size_t mbl_entities(const struct mbl_tagset *set, const int32_t *tags, int64_t n, bool strict, struct mbl_entity *out);

/* Scores the tags guessed for all words; rows[r] … rows[r + 1] - 1 are row r's. A guess of -1 (the row was cut before it) is wrong.
 * `loss_sum`: of negative log-likelihoods over `judged` words. Fails if there is no word, or the loss is no finite number. */
MBL_EXPORT int mbl_score_tags(const struct mbl_tagset *set, const struct mbl_schema *schema, int64_t row_count, const int64_t *rows,
                              const int32_t *tags, const int32_t *guesses, int64_t judged, double loss_sum, struct mbl_arena *a,
                              struct mbl_scores *out, struct mbl_error *e);

#endif
