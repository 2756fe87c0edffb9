/* A tokenizer.json from anywhere, and behind the first NUL a text: reading ends; what is taken encodes the text if it is UTF-8, with
 * offsets inside the text and ids
 * that stand for tokens, again with the same result out of the cache; decodes; and cuts to length. */
#include "lib/tokenizer.h"
#include "lib/utf8.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const struct mbl_tokenizer *t, const struct mbl_text *text) {
    struct mbl_error e;
    struct mbl_encoding first = {0}, second = {0};
    struct mbl_buf out = {0};
    struct mbl_encode_options o = {.offsets = true};
    if (mbl_tokenizer_encode(t, text, NULL, 1, &o, &first, &e)) {
        if (mbl_utf8_check(text->data, text->length) == text->length) abort();
    } else {
        for (size_t i = 0; i < first.count; i++) {
            if (!mbl_tokenizer_token(t, first.ids[i])) abort();
            if (first.offsets[i][0] > first.offsets[i][1] || first.offsets[i][1] > text->length) abort();
        }
        if (mbl_tokenizer_encode(t, text, text, 1, &o, &second, &e) || mbl_tokenizer_encode(t, text, NULL, 1, &o, &second, &e)) abort();
        if (first.count != second.count || memcmp(first.ids, second.ids, first.count * sizeof *first.ids)) abort();
        if (mbl_tokenizer_decode(t, first.ids, first.count, true, &out, &e)) abort();
        o.max_length = mbl_tokenizer_special_count(t, true) + 3;
        if (mbl_tokenizer_encode(t, text, text, 1, &o, &second, &e) || second.count > o.max_length) abort();
    }
    mbl_buf_free(&out);
    mbl_encoding_free(&first);
    mbl_encoding_free(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct mbl_error e;
    struct mbl_tokenizer *t;
    const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
    size_t length = nul ? (size_t)(nul - data) : size, from = nul ? length + 1 : size;
    struct mbl_text text = {(const char *)data + from, size - from};
    if (mbl_tokenizer_parse((const char *)data, length, "tokenizer.json", &t, &e)) {
        if (t || !*e.text) abort();
        return 0;
    }
    use(t, &text);
    mbl_tokenizer_free(t);
    return 0;
}
