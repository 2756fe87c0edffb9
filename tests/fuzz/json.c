/* mbl_json_parse on anything: it ends, reads nothing outside, and what it takes has one canonical text that reads back as itself. */
#include "lib/json.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct mbl_arena a = {0};
    struct mbl_json *v, *again;
    struct mbl_buf first = {0}, second = {0}, indented = {0};
    struct mbl_error e;
    if (!mbl_json_parse((const char *)data, size, "x", &a, &v, &e)) {
        mbl_json_write(v, MBL_JSON_COMPACT, &first);
        mbl_json_write(v, MBL_JSON_INDENTED, &indented);
        if (mbl_json_parse(indented.data, indented.len, "x", &a, &again, &e)) abort();
        mbl_json_write(again, MBL_JSON_COMPACT, &second);
        if (first.len != second.len || memcmp(first.data, second.data, first.len)) abort();
    } else if (!memchr(e.text, 0, sizeof e.text) || !*e.text) {
        abort();
    }
    mbl_buf_free(&first);
    mbl_buf_free(&second);
    mbl_buf_free(&indented);
    mbl_arena_free(&a);
    return 0;
}
