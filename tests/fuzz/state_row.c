/* Rows of the database as anything: a row that is taken is whole, and written anew it reads the same. The check that stands before the
 * fields would keep a fuzzer out, so the fields are read by themselves. */
#include "state_private.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_file(const uint8_t *data, size_t size) {
    struct state_file f, again;
    struct buf b = {0};
    if (state_read_file_fields(data, size, &f)) return;
    f.path = "path";
    state_write_file(&b, &f);
    if (state_read_file(b.data, b.len, "path", &again)) abort();
    if (!file_stat_same(&f.stat, &again.stat) || !artifact_same(&f.artifact, &again.artifact)) abort();
    buf_free(&b);
}

static void try_record(const uint8_t *data, size_t size) {
    struct state_record r = {.step = "step"}, again = {.step = "step"};
    struct arena a = {0};
    struct buf b = {0}, c = {0};
    if (!state_read_record_fields(data, size, &a, &r)) {
        state_write_record(&b, &r);
        if (state_read_record(b.data, b.len, &a, &again)) abort();
        state_write_record(&c, &again);
        if (b.len != c.len || memcmp(b.data, c.data, b.len)) abort();
    }
    buf_free(&b);
    buf_free(&c);
    arena_free(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct arena a = {0};
    struct state_file f;
    struct state_record r = {.step = "step"};
    try_file(data, size);
    try_record(data, size);
    if (!state_read_file(data, size, "path", &f) && f.path[0] != 'p') abort();
    state_read_record(data, size, &a, &r);
    arena_free(&a);
    return 0;
}
