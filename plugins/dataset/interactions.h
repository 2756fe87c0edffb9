/* interactions.h: the step dataset.interactions: who took what, from records to parts (lib/interactions.h). Its stages share one struct;
 * each is in a file of its own, and interactions.c is their order.
 */
#ifndef DATASET_INTERACTIONS_H
#define DATASET_INTERACTIONS_H

#include "lib/interactions.h"
#include "read.h"

enum split_by { SPLIT_NONE, SPLIT_RANDOM, SPLIT_TIME, SPLIT_LAST };
enum stranger { STRANGER_FAIL, STRANGER_KEEP, STRANGER_DROP };

struct pair {
    int32_t user, item;
    float rating;
    double time;                 /* its place in the source where there is no column of times */
    int64_t line;
    int32_t file;
    int32_t part;                /* PART_… */
};

struct side_options {            /* a table of features */
    const char *id;              /* its column of ids */
    enum stranger unknown;       /* an entry without any interaction */
    enum stranger missing;       /* an interaction whose user or item has no entry: fail or keep */
    struct names ignore, category;
};

struct interactions {
    const struct mb_host *host;
    struct mb_run *run;
    struct mbl_arena arena;
    /* what the rule says */
    struct options reading;      /* for the readers: format, separator, header, na */
    const char *column[MBL_SIDES], *rating, *time, *licence;
    bool has_least;
    double least_rating;
    const char *duplicates;      /* fail, drop, last */
    enum split_by by;
    double shares[PART_COUNT];   /* of the interactions; SPLIT_LAST: interactions of each user, of val and test */
    uint64_t seed;
    struct side_options side[MBL_SIDES];
    /* what was read */
    const char **files;
    size_t file_count;
    struct pair *pairs;
    size_t count, cap, repeated, unloved; /* repeated: dropped as copies; unloved: rated too low */
    struct dictionary ids[MBL_SIDES];
    struct table tables[MBL_SIDES];
    bool has_table[MBL_SIDES];
    int32_t *entry[MBL_SIDES];   /* by code: the row of the table, -1 without; NULL without a table */
    /* what is written */
    struct mbl_entities entities[MBL_SIDES];
    struct mbl_error e;
};

/* What dataset.c lists. */
extern const struct mb_role interactions_roles[];
extern const struct mb_param interactions_params[];
int interactions_check(const struct mb_host *host, struct mb_run *run);
int interactions_run(const struct mb_host *host, struct mb_run *run);

int interactions_read(struct interactions *x);
int interactions_read_tables(struct interactions *x); /* after interactions_read */
int interactions_divide(struct interactions *x);      /* sets `part`; sorts by part, keeping the source's order */
int interactions_write(struct interactions *x);
bool interactions_parse_time(const char *s, size_t n, double *out); /* a number, or a date as ISO 8601 writes it: seconds since 1970 */

#endif
