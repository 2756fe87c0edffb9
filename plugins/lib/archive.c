/* archive.c: files, unpacked while they are read; see archive.h. Only filters that run inside libarchive are switched on: no data file
 * makes a step start another program. */
#include "archive.h"

#include <archive.h>
#include <archive_entry.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define BLOCK_BYTES ((size_t)256 << 10)

struct mbl_stream {
    struct archive *archive; /* NULL: bytes in memory */
    char *name;
    const unsigned char *data;
    size_t at, size;         /* memory: position, end. File: `size` is its size */
};

static int stream_fail(struct mbl_stream *s, const char *verb, struct mbl_error *e) {
    const char *why = archive_error_string(s->archive);
    return mbl_error_set(e, "cannot %s %s: %s", verb, s->name, why ? why : "unknown error");
}

int mbl_stream_open(const char *path, struct mbl_stream **out, struct mbl_error *e) {
    static int (*const filters[])(struct archive *) = {
        archive_read_support_filter_gzip, archive_read_support_filter_xz,   archive_read_support_filter_lzma,
        archive_read_support_filter_bzip2, archive_read_support_filter_zstd};
    struct stat st;
    struct archive_entry *entry;
    struct mbl_stream *s = *out = mbl_alloc(sizeof *s);
    s->name = mbl_printf("%s", path);
    s->archive = archive_read_new();
    if (!s->archive) {
        mbl_error_set(e, "cannot read %s: out of memory", path);
        goto fail;
    }
    if (stat(path, &st)) {
        mbl_error_errno(e, "cannot read %s", path);
        goto fail;
    }
    if (S_ISDIR(st.st_mode)) {
        mbl_error_set(e, "%s is a folder; a file is expected", path);
        goto fail;
    }
    s->size = (size_t)st.st_size;
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++)
        if (filters[i](s->archive) != ARCHIVE_OK) {
            /* ARCHIVE_WARN: this libarchive would start a program for it. Such a file is then read as it is, and refused for its content.
             */
            archive_clear_error(s->archive);
        }
    archive_read_support_format_raw(s->archive);
    archive_read_support_format_empty(s->archive);
    if (archive_read_open_filename(s->archive, path, BLOCK_BYTES) != ARCHIVE_OK) {
        stream_fail(s, "read", e);
        goto fail;
    }
    int status = archive_read_next_header(s->archive, &entry);
    if (status == ARCHIVE_EOF) { /* an empty file: nothing to read */
        archive_read_free(s->archive);
        s->archive = NULL;
        s->size = 0;
    } else if (status != ARCHIVE_OK) {
        stream_fail(s, "unpack", e);
        goto fail;
    }
    return 0;
fail:
    mbl_stream_close(s);
    *out = NULL;
    return -1;
}

struct mbl_stream *mbl_stream_memory(const void *data, size_t size, const char *name) {
    struct mbl_stream *s = mbl_alloc(sizeof *s);
    s->name = mbl_printf("%s", name);
    s->data = data;
    s->size = size;
    return s;
}

int mbl_stream_read(struct mbl_stream *s, void *to, size_t size, size_t *got, struct mbl_error *e) {
    *got = 0;
    if (!s->archive) {
        *got = size < s->size - s->at ? size : s->size - s->at;
        if (*got) memcpy(to, s->data + s->at, *got);
        s->at += *got;
        return 0;
    }
    la_ssize_t n = archive_read_data(s->archive, to, size);
    if (n < 0) return stream_fail(s, "unpack", e);
    *got = (size_t)n;
    return 0;
}

int mbl_stream_all(struct mbl_stream *s, size_t most, struct mbl_buf *out, struct mbl_error *e) {
    size_t begin = out->len, got;
    do {
        out->data = mbl_grow(out->data, &out->cap, out->len + BLOCK_BYTES + 1, 1);
        if (mbl_stream_read(s, out->data + out->len, BLOCK_BYTES, &got, e)) return -1;
        out->len += got;
        out->data[out->len] = 0;
        if (out->len - begin > most) return mbl_error_set(e, "%s: more than %zu bytes", s->name, most);
    } while (got);
    return 0;
}

const char *mbl_stream_name(const struct mbl_stream *s) {
    return s->name;
}

uint64_t mbl_stream_done(const struct mbl_stream *s) {
    return s->archive ? (uint64_t)archive_filter_bytes(s->archive, -1) : s->at;
}

uint64_t mbl_stream_size(const struct mbl_stream *s) {
    return s->size;
}

void mbl_stream_close(struct mbl_stream *s) {
    if (!s) return;
    if (s->archive) archive_read_free(s->archive);
    free(s->name);
    free(s);
}
