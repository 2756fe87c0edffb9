/* value_parse on anything: it ends, reads nothing outside, and what it takes has one canonical text that reads back as the same value. */
#include "value.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct arena a = {0};
    struct value v, again;
    struct buf first = {0}, second = {0};
    struct err e;
    if (!value_parse((const char *)data, size, &a, &v, &e)) {
        value_write(&v, &first);
        if (value_parse(buf_str(&first), first.len, &a, &again, &e)) abort();
        value_write(&again, &second);
        if (first.len != second.len || memcmp(first.data, second.data, first.len) || !value_equal(&v, &again)) abort();
        value_at(&v, "a.b[1].c");
    } else if (!memchr(e.text, 0, sizeof e.text)) {
        abort();
    }
    buf_free(&first);
    buf_free(&second);
    arena_free(&a);
    return 0;
}
