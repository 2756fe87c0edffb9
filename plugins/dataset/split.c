/* split.c: which rows train, which validate and which test; see rows.h.
 *
 * Each row gets a 64-bit number from Philox by seed and position; within a class (one, if not stratified) rows go to the parts in the order
 * of these numbers. How many go where is the largest remainder method (Hamilton), with what earlier classes were short of carried on, so
 * that the parts as a whole also have their shares. Integers and plain IEEE sums in a fixed order: the same bits on every machine.
 */
#include "rows.h"

#include <math.h>
#include <mbuild/kernels.h>
#include <stdlib.h>
#include <string.h>

struct ticket {
    uint64_t number;
    size_t row, class, group; /* group: 0 without groups */
};

static uint64_t draw(uint64_t seed, uint64_t i) {
    uint32_t words[4];
    mbk_philox(seed, i, words);
    return (uint64_t)words[0] << 32 | words[1];
}

static int by_class(const void *a, const void *b) {
    const struct ticket *x = a, *y = b;
    if (x->class != y->class) return x->class < y->class ? -1 : 1;
    if (x->number != y->number) return x->number < y->number ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

static int by_row(const void *a, const void *b) {
    size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return x < y ? -1 : x > y;
}

static void give(struct rows *part, size_t row) {
    part->at[part->count++] = row;
}

/* How many of `n` rows go to each part; `owed` is what each part was short of so far. */
static void apportion(const double *fractions, size_t n, double *owed, size_t *counts) {
    double exact[PART_COUNT], wish[PART_COUNT];
    size_t given = 0;
    for (int p = 0; p < PART_ALL; p++) {
        exact[p] = (double)n * fractions[p];
        counts[p] = (size_t)floor(exact[p] + 1e-9);
        wish[p] = exact[p] - (double)counts[p] + owed[p];
        given += counts[p];
    }
    while (given < n) {
        int best = -1;
        for (int p = 0; p < PART_ALL; p++)
            if (fractions[p] > 0 && (best < 0 || wish[p] > wish[best] + 1e-9)) best = p;
        counts[best]++;
        wish[best] -= 1;
        given++;
    }
    while (given > n) { /* shares that sum to 1 + 1e-6 over many rows */
        int most = 0;
        for (int p = 1; p < PART_ALL; p++)
            if (counts[p] > counts[most]) most = p;
        counts[most]--;
        given--;
    }
    for (int p = 0; p < PART_ALL; p++) owed[p] += exact[p] - (double)counts[p];
}

static int too_small(const struct column *label, const struct ticket *t, size_t n, size_t parts, struct mbl_error *e) {
    return mbl_error_set(e,
                         "split: class \"%s\" has %zu row%s, fewer than the %zu parts; merge it with another, get more, or drop stratify",
                         label->dictionary.names[t->class], n, n == 1 ? "" : "s", parts);
}

static int split_plain(const struct options *o, const struct column *label, const struct ticket *tickets, size_t count, struct rows *parts,
                       void (*note)(void *, const char *), void *context, struct mbl_error *e) {
    double owed[PART_COUNT] = {0};
    size_t wanted = 0;
    for (int p = 0; p < PART_ALL; p++) wanted += o->fractions[p] > 0;
    for (size_t begin = 0, end; begin < count; begin = end) {
        size_t counts[PART_COUNT];
        for (end = begin; end < count && tickets[end].class == tickets[begin].class;) end++;
        if (o->stratify && end - begin < wanted) return too_small(label, &tickets[begin], end - begin, wanted, e);
        apportion(o->fractions, end - begin, owed, counts);
        size_t at = begin;
        for (int p = 0; p < PART_ALL; p++) {
            for (size_t k = 0; k < counts[p]; k++) give(&parts[p], tickets[at++].row);
            if (!o->stratify || counts[p] || o->fractions[p] <= 0) continue;
            char *text = mbl_printf("split: none of the %zu rows of class \"%s\" is in %s", end - begin,
                                    label->dictionary.names[tickets[begin].class], part_names[p]);
            note(context, text);
            free(text);
        }
    }
    return 0;
}

/* -- groups: all rows of one go to the same part */

struct group {
    uint64_t number;
    size_t code, count;
    size_t *classes; /* rows by class */
};

static int by_size(const void *a, const void *b) {
    const struct group *x = a, *y = b;
    if (x->count != y->count) return x->count > y->count ? -1 : 1;
    if (x->number != y->number) return x->number < y->number ? -1 : 1;
    return x->code < y->code ? -1 : x->code > y->code;
}

/* The largest groups first, each to the part that lacks most of what it has, by class and in proportion to what the part is to get. */
static void split_groups(const struct options *o, const struct column *column, const struct ticket *tickets, size_t count, size_t classes,
                         struct rows *parts) {
    size_t group_count = column->dictionary.count, *totals = mbl_alloc(classes * sizeof *totals),
           *block = mbl_alloc(group_count * classes * sizeof *block);
    struct group *groups = mbl_alloc(group_count * sizeof *groups);
    double *given = mbl_alloc(PART_COUNT * classes * sizeof *given);
    int *place = mbl_alloc(group_count * sizeof *place);
    for (size_t g = 0; g < group_count; g++) groups[g] = (struct group){draw(o->seed, g), g, 0, block + g * classes};
    for (size_t i = 0; i < count; i++) {
        groups[tickets[i].group].count++;
        groups[tickets[i].group].classes[tickets[i].class]++;
        totals[tickets[i].class]++;
    }
    qsort(groups, group_count, sizeof *groups, by_size);
    for (size_t g = 0; g < group_count; g++) {
        int best = -1;
        double best_score = 0;
        for (int p = 0; p < PART_ALL; p++) {
            double score = 0;
            if (o->fractions[p] <= 0) continue;
            for (size_t c = 0; c < classes; c++) {
                double target = (double)totals[c] * o->fractions[p];
                if (target > 0) score += (double)groups[g].classes[c] * (target - given[(size_t)p * classes + c]) / target;
            }
            if (best < 0 || score > best_score + 1e-9) best = p, best_score = score;
        }
        for (size_t c = 0; c < classes; c++) given[(size_t)best * classes + c] += (double)groups[g].classes[c];
        place[groups[g].code] = best;
    }
    for (size_t i = 0; i < count; i++) give(&parts[place[tickets[i].group]], tickets[i].row);
    free(totals);
    free(block);
    free(groups);
    free(given);
    free(place);
}

int split_rows(const struct table *t, const struct options *o, const struct rows *kept, struct rows parts[PART_COUNT],
               void (*note)(void *context, const char *text), void *context, struct mbl_error *e) {
    const struct column *label = table_label(t), *group = o->group ? table_find(t, o->group) : NULL;
    if (o->stratify && (!label || label->kind != MBL_CATEGORY))
        return mbl_error_set(e, "split.stratify needs a class for each row; there is none");
    for (int p = 0; p < PART_COUNT; p++) {
        void *block;
        if (mbl_try_alloc(&block, kept->count, sizeof(size_t), "the split", e)) return -1;
        parts[p] = (struct rows){block, 0};
    }
    if (!o->split) {
        memcpy(parts[PART_ALL].at, kept->at, kept->count * sizeof *kept->at);
        parts[PART_ALL].count = kept->count;
        return 0;
    }
    void *block;
    if (mbl_try_alloc(&block, kept->count, sizeof(struct ticket), "the split", e)) return -1;
    struct ticket *tickets = block;
    for (size_t i = 0; i < kept->count; i++)
        tickets[i] = (struct ticket){draw(o->seed, i), kept->at[i], o->stratify ? (size_t)label->codes[kept->at[i]] : 0,
                                     group ? (size_t)group->codes[kept->at[i]] : 0};
    qsort(tickets, kept->count, sizeof *tickets, by_class);
    int failed = 0;
    if (group) split_groups(o, group, tickets, kept->count, o->stratify ? label->dictionary.count : 1, parts);
    else failed = split_plain(o, label, tickets, kept->count, parts, note, context, e);
    free(block);
    for (int p = 0; p < PART_ALL && !failed; p++) {
        qsort(parts[p].at, parts[p].count, sizeof *parts[p].at, by_row);
        if (o->fractions[p] > 0 && !parts[p].count)
            failed = mbl_error_set(e, "split: %s = %g of %zu rows is none at all", part_names[p], o->fractions[p], kept->count);
    }
    return failed;
}
