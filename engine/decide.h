/* decide.h: is a step up to date, can its outputs be had from the store, or must it run; and why. */
#ifndef ENGINE_DECIDE_H
#define ENGINE_DECIDE_H

#include "bind.h"

enum verdict {
    VERDICT_CURRENT, /* the outputs stand and are those that this key gives */
    VERDICT_RESTORE, /* an earlier run with this key made them: `from` says what, the store has it */
    VERDICT_RUN,
    VERDICT_OPEN     /* dry only: an input will be made anew, so the key isn't known yet */
};

struct decision {
    enum verdict verdict;
    struct digest key;
    const struct state_record *from;
    const char *fingerprint; /* "" where there is none */
    const char *env;         /* declared values, canonical JSON */
};

/* For a step whose inputs are all known and that is bound. Learns the outputs' files. */
int decide_step(struct session *s, uint32_t step, struct decision *out, struct err *e);

/* The artifact that an input slot stands for, also inside a folder; secret ones have none. The file must be known. */
const struct artifact *decide_input(const struct session *s, const struct slot *slot);

/* Why a step isn't current, in order of weight; each reason is one line: "parameter lr: 0.001 → 0.003", "input data/x.csv changed".
 * `key_known` false where an input is yet to be made. Returns how many; at most `most` are told. */
uint32_t decide_reasons(struct session *s, uint32_t step, const struct decision *d, uint32_t most,
                        void (*each)(void *ctx, const char *reason, uint32_t cause /* step that causes it, or NO_ID */), void *ctx);

/* After a step ran: keeps of its sources what explain_input will ask for. What can't be kept is not explained, no more. */
void explain_keep(struct session *s, const struct step *step);

/* How an input of a bound step differs from its former content, in the plugin's words; free it. NULL if nobody can tell. */
char *explain_input(struct session *s, const struct step *step, uint32_t input, const struct artifact *former);

#endif
