/* interactions.h: a part of a dataset of interactions: which user took which item, as the step dataset.interactions leaves it.
 *
 * Beside its catalogue (catalogue.h) a part has, of its rows, `user` and `item` I32 (indices into the catalogue), perhaps `rating` F32 and
 * `time` F64 (seconds, or whatever unit the source has), and `line` I64. Parts for validation and test also hold what each user took in the
 * parts before: `seen:offsets` I64 [users + 1] and `seen` I32, items in ascending order, so that a part stands for itself: what is
 * recommended must be new to the user, and a negative must be nothing that the user is known to have taken.
 */
#ifndef MBL_INTERACTIONS_H
#define MBL_INTERACTIONS_H

#include "catalogue.h"
#include "dataset.h"

struct mbl_interactions {
    struct mbl_catalogue *catalogue; /* the part's own */
    int64_t rows;
    const int32_t *users, *items;    /* [rows], in the part's catalogue, or, after mbl_interactions_bind, in the model's */
    const float *ratings;            /* NULL without */
    int64_t *seen_at;                /* [users + 1]: of each user, where in `seen` … */
    int32_t *seen;                   /* … what was taken in earlier parts stands, ascending */
    int64_t *known_at;               /* the same, with this part's rows too */
    int32_t *known;
    int64_t user_count;              /* of these four; users of an index beyond have nothing */
    struct mbl_arena arena;
    void *moved[2];                  /* users and items after binding */
};

/* From an opened part (d->schema.task is MBL_INTERACTIONS), which must outlive it. Checks all of it. */
MBL_EXPORT int mbl_interactions_open(const struct mbl_dataset *d, struct mbl_interactions *out, struct mbl_error *e);
/* To the indices of another catalogue, which adopts whom it doesn't know. */
MBL_EXPORT int mbl_interactions_bind(struct mbl_interactions *x, struct mbl_catalogue *to, struct mbl_error *e);
MBL_EXPORT void mbl_interactions_close(struct mbl_interactions *x); /* all zero is fine */

/* An item below `items` that the user isn't known to have taken, each as likely as any other: the one that `word` (64 random bits) picks.
 * -1: the user took all of them. */
MBL_EXPORT int32_t mbl_interactions_negative(const struct mbl_interactions *x, int32_t user, int64_t items, uint64_t word);

#endif
