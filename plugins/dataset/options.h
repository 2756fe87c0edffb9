/* options.h: what the rule asks for, read once from the host. Strings are the host's. */
#ifndef DATASET_OPTIONS_H
#define DATASET_OPTIONS_H

#include "lib/dataset.h"
#include <mbuild/plugin.h>

enum policy { POLICY_KEEP, POLICY_DROP, POLICY_FAIL, POLICY_MEAN };
enum { PART_TRAIN, PART_VAL, PART_TEST, PART_ALL, PART_COUNT };
extern const char *const part_names[PART_COUNT];

struct names {
    const char **items;
    size_t count;
};

struct options {
    struct mbl_arena arena;
    const char *format, *header, *task, *scaling, *licence;
    const char *words;           /* the column that holds lists of words; NULL: by its name */
    bool no_lists;               /* columns of lists are left out */
    const char *scheme;          /* of tags; "auto": by the tags */
    struct names tags;           /* what tags there are; of a source with numbers, the names of these */
    char separator;              /* 0: by content */
    struct names columns, features, ignore, text, category, na;
    const char *label;           /* a column's name, or NULL; */
    int64_t label_index;         /* its number, 1-based, or from the end if negative; 0: not given so */
    int shape_rank;
    int64_t shape[3];
    enum policy duplicates, missing;
    bool split;
    double fractions[PART_COUNT]; /* PART_ALL: 1 without a split */
    bool stratify;
    uint64_t seed;
    const char *group;
};

extern const struct mb_param dataset_params[];

/* Parameters against each other; the status is the host's fail or MB_OK. */
int options_check(const struct mb_host *host, struct mb_run *run);

void options_read(const struct mb_host *host, struct mb_run *run, struct options *out);
void options_free(struct options *o);
bool names_have(const struct names *list, const char *name);

#endif
