/* Lists of headers, as compilers write them or don't: whatever is in them, the reader stays inside of the text. */
#include "compile/depfile.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
    char *text = malloc(size + 1), *rest = text;
    if (!text) abort();
    if (size) memcpy(text, data, size);
    text[size] = 0;
    for (char *w; (w = depfile_next(&rest));)
        if (w < text || w + strlen(w) > text + size) abort();
    free(text);
    return 0;
}
