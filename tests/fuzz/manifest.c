/* manifest_parse on anything: whatever it takes stays within its folder, by rules written down here once more, and in its order. */
#include "digest_manifest.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_path(const char *path) {
    if (!*path || *path == '/' || path[strlen(path) - 1] == '/' || strstr(path, "//")) abort();
    if (!strcmp(path, "..") || !strncmp(path, "../", 3) || strstr(path, "/../")) abort();
    size_t n = strlen(path);
    if (n >= 3 && !strcmp(path + n - 3, "/..")) abort();
    if (!strcmp(path, ".") || !strncmp(path, "./", 2) || strstr(path, "/./") || (n >= 2 && !strcmp(path + n - 2, "/."))) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct manifest m;
    struct err e;
    if (manifest_parse((const char *)data, size, &m, &e)) return 0;
    for (uint32_t i = 0; i < m.count; i++) {
        const char *path = m.entries[i].path;
        check_path(path);
        if (i && strcmp(m.entries[i - 1].path, path) >= 0) abort();
        for (uint32_t k = 0; k < m.count && m.count < 200; k++) {
            size_t n = strlen(m.entries[k].path);
            if (!strncmp(path, m.entries[k].path, n) && path[n] == '/') abort(); /* below another entry */
        }
    }
    manifest_free(&m);
    return 0;
}
