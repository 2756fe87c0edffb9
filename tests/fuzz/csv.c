/* mbl_csv_next on anything: it ends, lines only grow, and every field is a string of UTF-8 as long as it says. */
#include "lib/csv.h"
#include "lib/utf8.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct mbl_csv csv;
    struct mbl_error e;
    struct mbl_stream *s = mbl_stream_memory(data, size, "x");
    int64_t line = 0;
    if (!mbl_csv_open(&csv, s, 0, &e)) {
        while (mbl_csv_next(&csv, &e) > 0) {
            if (csv.line <= line || !csv.count) abort();
            line = csv.line;
            for (size_t i = 0; i < csv.count; i++) {
                const struct mbl_field *f = &csv.fields[i];
                if (strlen(f->text) != f->length || mbl_utf8_check(f->text, f->length) != f->length) abort();
            }
        }
    }
    mbl_csv_close(&csv);
    mbl_stream_close(s);
    return 0;
}
