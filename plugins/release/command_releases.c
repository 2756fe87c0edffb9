/* command_releases.c: `mbuild releases`, a table of the records. */
#include "release.h"

#include "lib/lookup.h"
#include "record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct mb_param command_releases_options[] = {
    {.name = "folder", .type = MB_STRING, .deflt = "\"releases\"", .help = "where the records are"},
    {0}};

/* The figures that say most, in this order; the first three that a release has are shown. */
static const char *const figures[] = {"accuracy", "f1_macro", "recall_macro", "auc", "r2", "rmse", "mae", "perplexity", "loss"};

enum { COLUMNS = 6, CELL = 80 };

static void fill(const struct record *r, char row[COLUMNS][CELL]) {
    const struct mbl_json *gates = mbl_json_get(r->json, "gates"), *scores = mbl_json_get(r->json, "scores");
    double size = (double)mbl_json_get_int(mbl_json_get(r->json, "bundle"), "size", 0);
    const char *units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0, shown = 0, used = 0;
    for (; size >= 1024 && unit < 4; unit++) size /= 1024;
    snprintf(row[0], CELL, "%s", r->name);
    snprintf(row[1], CELL, "%s", record_text(r, "version"));
    snprintf(row[2], CELL, "%.12s  %.*f %s", record_text(r, "bundle.sha256"), unit && size < 100 ? 1 : 0, size, units[unit]);
    snprintf(row[3], CELL, "%zu passed", gates && gates->type == MBL_JSON_LIST ? gates->count : 0);
    if (*record_text(r, "signature.sha256"))
        snprintf(row[4], CELL, "%s %.8s", record_text(r, "signature.key"), record_text(r, "signature.fingerprint"));
    else snprintf(row[4], CELL, "unsigned");
    for (size_t i = 0; i < sizeof figures / sizeof *figures && shown < 3; i++) {
        const struct mbl_json *v = mbl_lookup(scores, figures[i]);
        if (!v || !mbl_json_is_number(v) || used >= CELL) continue;
        used += (size_t)snprintf(row[5] + used, CELL - used, "%s%s %.4g", shown++ ? ", " : "", figures[i], mbl_json_number(v));
    }
}

static void print_rows(char (*rows)[COLUMNS][CELL], size_t count) {
    int width[COLUMNS] = {0};
    for (size_t i = 0; i < count; i++)
        for (int c = 0; c < COLUMNS; c++)
            if ((int)strlen(rows[i][c]) > width[c]) width[c] = (int)strlen(rows[i][c]);
    for (size_t i = 0; i < count; i++)
        for (int c = 0; c < COLUMNS; c++) printf(c + 1 < COLUMNS ? "%-*s  " : "%.*s\n", c + 1 < COLUMNS ? width[c] : CELL, rows[i][c]);
}

int command_releases(const struct mb_host *host, struct mb_run *run, int argc, char **argv) {
    struct records records;
    struct mbl_error e;
    const char *folder = host->param_string(run, "folder");
    if (argc > 1) {
        fprintf(stderr, "mbuild releases: it takes no argument, found %s\n", argv[1]);
        return 2;
    }
    if (records_read(folder, &records, &e)) {
        fprintf(stderr, "mbuild releases: %s\n", e.text);
        return 2;
    }
    static const char *const titles[COLUMNS] = {"RELEASE", "VERSION", "BUNDLE", "GATES", "KEY", "SCORES"};
    char(*rows)[COLUMNS][CELL] = mbl_alloc((records.count + 1) * sizeof *rows);
    size_t count = 1;
    int status = 0;
    for (int c = 0; c < COLUMNS; c++) snprintf(rows[0][c], CELL, "%s", titles[c]);
    for (size_t i = 0; i < records.count; i++)
        if (records.items[i].json) fill(&records.items[i], rows[count++]);
    if (records.count) print_rows(rows, count);
    else printf("no releases in %s/; `mbuild release` makes one\n", folder);
    for (size_t i = 0; i < records.count; i++) {
        if (!records.items[i].damage) continue;
        printf("%s: %s\n", records.items[i].path, records.items[i].damage);
        status = 1;
    }
    free(rows);
    records_free(&records);
    return status;
}
