/* A table out of anything, whatever format it is taken for, then cleaned, checked and split: it ends, and each row that is kept is in just one part. */
#include "dataset/read.h"
#include "dataset/rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void hear(void *context, const char *text) {
    (void)context;
    if (!*text) abort();
}

static void use(struct table *t, const struct options *o) {
    struct cleaned cleaned;
    struct rows parts[PART_COUNT] = {0};
    struct mbl_error e;
    if (!clean_rows(t, o, &cleaned, &e)) {
        for (size_t i = 0; i < t->column_count; i++)
            if (t->columns[i].kind == MBL_CATEGORY) table_settle_categories(&t->columns[i], t->rows, cleaned.rows.at, cleaned.rows.count);
        struct column *label = table_label(t);
        if (label && label->kind == MBL_WORDS) {
            table_settle_tags(label, t->rows, cleaned.rows.at, cleaned.rows.count, NULL, 0);
            tags_fit(t, o, &cleaned.rows, &e);
        }
        expect_hold(t, NULL, &cleaned.rows, &e);
        if (!split_rows(t, o, &cleaned.rows, parts, hear, NULL, &e)) {
            size_t sum = 0;
            for (int p = 0; p < PART_COUNT; p++) sum += parts[p].count;
            if (sum != cleaned.rows.count) abort();
            if (parts[PART_TRAIN].count) fill_missing(t, &parts[PART_TRAIN], &e);
        }
    }
    free(cleaned.rows.at);
    for (int p = 0; p < PART_COUNT; p++) free(parts[p].at);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const formats[] = {"auto", "csv", "jsonl", "text", "idx", "npy", "conll", "conllu"};
    static const char *na[] = {"NA"};
    if (!size) return 0;
    char path[64];
    const char *paths[] = {path};
    struct table t;
    struct mbl_error e;
    unsigned choice = data[0];
    struct options o = {.format = formats[choice % 8], .header = "auto", .task = "auto", .scaling = "standard", .scheme = choice & 32 ? "iob2" : "auto", .na = {na, 1},
                        .label_index = choice & 64 ? -1 : 0, .missing = choice & 8 ? POLICY_DROP : POLICY_MEAN,
                        .duplicates = choice & 16 ? POLICY_DROP : POLICY_KEEP, .split = true, .fractions = {0.5, 0.25, 0.25}, .stratify = choice >= 192};
    struct reading r = {.paths = paths, .path_count = 1, .options = &o};
    int fd = memfd_create("table", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data + 1, size - 1) != (ssize_t)(size - 1)) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (!read_table(&r, &t, &e)) {
        use(&t, &o);
        table_free(&t);
    }
    close(fd);
    return 0;
}
