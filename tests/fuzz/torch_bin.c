/* PyTorch's files from anywhere. What begins with "PK" is the file itself; anything else is its pickle, which is put into a zip with two
 * storages of 64 bytes, "0" and "1", since a fuzzer can't guess checksums. Reading ends, runs nothing, and every byte of the tensors that come of it
 * is there. */
#include "lib/hf.h"

#include <archive.h>
#include <archive_entry.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void add_member(struct archive *a, const char *name, const void *data, size_t size) {
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, name);
    archive_entry_set_size(entry, (la_int64_t)size);
    archive_entry_set_filetype(entry, AE_IFREG);
    if (archive_write_header(a, entry) != ARCHIVE_OK || archive_write_data(a, data, size) != (la_ssize_t)size) abort();
    archive_entry_free(entry);
}

static size_t wrap(const uint8_t *pickle, size_t size, char *out, size_t room) {
    char storage[64];
    size_t used = 0;
    struct archive *a = archive_write_new();
    memset(storage, 1, sizeof storage);
    if (archive_write_set_format_zip(a) != ARCHIVE_OK || archive_write_zip_set_compression_store(a) != ARCHIVE_OK ||
        archive_write_open_memory(a, out, room, &used) != ARCHIVE_OK)
        abort();
    add_member(a, "x/data.pkl", pickle, size);
    add_member(a, "x/data/0", storage, sizeof storage);
    add_member(a, "x/data/1", storage, sizeof storage);
    if (archive_write_close(a) != ARCHIVE_OK) abort();
    archive_write_free(a);
    return used;
}

static void parse(const void *data, size_t size) {
    struct mbl_torch_file f;
    struct mbl_error e = {{0}};
    if (mbl_torch_parse(data, size, "x.bin", &f, &e)) {
        if (!e.text[0]) abort();
        return;
    }
    unsigned sum = 0;
    for (size_t i = 0; i < f.count; i++) {
        const struct mbl_tensor *t = &f.tensors[i];
        if (t->bytes != (size_t)mbl_tensor_count(t) * mbl_dtype_width(t->type)) abort();
        for (size_t b = 0; b < t->bytes; b++) sum += ((const unsigned char *)t->data)[b];
        sum += (unsigned)strlen(t->name);
    }
    if (sum == 0xdeadbeef) abort(); /* so that it is summed */
    mbl_torch_close(&f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size >= 2 && data[0] == 'P' && data[1] == 'K') {
        parse(data, size);
        return 0;
    }
    size_t room = size + 4096;
    char *zip = malloc(room);
    if (!zip || !size) {
        free(zip);
        return 0;
    }
    parse(zip, wrap(data, size, zip, room));
    free(zip);
    return 0;
}
