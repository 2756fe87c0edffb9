/* mbl_safetensors_parse on anything: what it takes lies within the input, each byte of data in just one tensor, and can be read. */
#include "lib/safetensors.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct mbl_safetensors s;
    struct mbl_error e;
    if (mbl_safetensors_parse(data, size, "x", &s, &e)) return 0;
    size_t bytes = 0;
    for (size_t i = 0; i < s.count; i++) {
        const struct mbl_tensor *t = &s.tensors[i];
        const uint8_t *begin = t->data;
        if (mbl_safetensors_find(&s, t->name) != t) abort();
        if (begin < data || begin > data + size || t->bytes > (size_t)(data + size - begin)) abort();
        if ((uint64_t)mbl_tensor_count(t) * mbl_dtype_width(t->type) != t->bytes) abort();
        float *out = malloc((size_t)mbl_tensor_count(t) * sizeof *out + 1);
        if (out) mbl_tensor_floats(t, out, &e);
        free(out);
        bytes += t->bytes;
    }
    if (bytes > size) abort();
    mbl_safetensors_close(&s);
    return 0;
}
