/* array_parse_idx on anything: what it takes has a shape whose elements all lie within the input. */
#include "dataset/read.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct array a;
    struct mbl_error e;
    if (array_parse_idx(data, size, "x", &a, &e)) return 0;
    uint64_t count = 1;
    for (int i = 0; i < a.rank; i++) count *= (uint64_t)a.shape[i];
    if (count != a.count || count == 0 || a.rank < 1) abort();
    volatile double last;
    for (uint64_t i = 0; i < a.count; i++) last = array_at(&a, i);
    (void)last;
    return 0;
}
