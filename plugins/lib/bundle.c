/* bundle.c: writing bundles; see bundle.h. bundle_check.c reads them. */
#include "bundle.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FIXED_TIME 315532800 /* 1980-01-01 00:00:00 UTC: the first that zip can tell */

static int compare_members(const void *a, const void *b) {
    return strcmp(((const struct mbl_member *)a)->name, ((const struct mbl_member *)b)->name);
}

/* A relative path without empty, "." and ".." parts. */
static bool name_is_safe(const char *name) {
    for (const char *p = name; ; p++) {
        size_t n = strcspn(p, "/");
        if (!n || (n == 1 && *p == '.') || (n == 2 && p[0] == '.' && p[1] == '.')) return false;
        p += n;
        if (!*p) return true;
    }
}

int mbl_bundle_prepare(struct mbl_member *members, size_t count, struct mbl_error *e) {
    if (count) qsort(members, count, sizeof *members, compare_members);
    for (size_t i = 0; i < count; i++) {
        struct mbl_member *m = &members[i];
        unsigned char digest[MBL_SHA256];
        if (!name_is_safe(m->name)) return mbl_error_set(e, "\"%s\" can't be a file's name in a bundle", m->name);
        if (!strcmp(m->name, "manifest.json") || (i && !strcmp(m->name, members[i - 1].name)))
            return mbl_error_set(e, "two files of the bundle would be called %s", m->name);
        if (*m->sha256) continue;
        if (!m->path) mbl_sha256_of(m->data, m->size, digest);
        else if (mbl_sha256_file(m->path, digest, &m->size, e)) return -1;
        mbl_sha256_text(digest, m->sha256);
    }
    return 0;
}

struct mbl_json *mbl_bundle_manifest(const char *name, const char *version, const struct mbl_member *members, size_t count,
                                     struct mbl_arena *a) {
    struct mbl_json *manifest = mbl_json_table(a), *files = mbl_json_list(a);
    for (size_t i = 0; i < count; i++) {
        struct mbl_json *file = mbl_json_table(a);
        mbl_json_set(a, file, "path", mbl_json_string(a, members[i].name));
        mbl_json_set(a, file, "sha256", mbl_json_string(a, members[i].sha256));
        mbl_json_set(a, file, "size", mbl_json_int(a, (int64_t)members[i].size));
        mbl_json_push(a, files, file);
    }
    mbl_json_set(a, manifest, "kind", mbl_json_string(a, "bundle"));
    mbl_json_set(a, manifest, "format", mbl_json_int(a, 1));
    mbl_json_set(a, manifest, "name", mbl_json_string(a, name));
    mbl_json_set(a, manifest, "version", mbl_json_string(a, version));
    mbl_json_set(a, manifest, "files", files);
    return manifest;
}

/* -- formats: a row each */

struct format {
    const char *name;
    int (*set_format)(struct archive *);
    int (*add_filter)(struct archive *);
    const char *level_option; /* "MODULE:compression-level" */
    const char *options;      /* further ones, NULL: none */
};

static const struct format formats[] = {
    {"tar.zst", archive_write_set_format_pax_restricted, archive_write_add_filter_zstd, "zstd", NULL},
    {"tar.gz", archive_write_set_format_pax_restricted, archive_write_add_filter_gzip, "gzip", "gzip:!timestamp"},
    {"tar", archive_write_set_format_pax_restricted, archive_write_add_filter_none, NULL, NULL},
    {"zip", archive_write_set_format_zip, archive_write_add_filter_none, "zip", NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static const struct format *find_format(const char *name) {
    for (const struct format *f = formats; f->name; f++)
        if (!strcmp(f->name, name)) return f;
    return NULL;
}

static int archive_fail(struct archive *a, const char *path, struct mbl_error *e) {
    const char *why = archive_error_string(a);
    return mbl_error_set(e, "%s: %s", path, why ? why : "libarchive failed without saying why");
}

static struct archive *open_archive(int fd, const char *path, const char *format, int level, struct mbl_error *e) {
    const struct format *f = find_format(format);
    if (!f) {
        mbl_error_set(e, "there is no format \"%s\"", format);
        return NULL;
    }
    struct archive *a = archive_write_new();
    if (!a) {
        mbl_error_set(e, "out of memory");
        return NULL;
    }
    /* A tar in whole blocks of 10 KiB, as everybody writes it; compressed data and zip end where they end. */
    int status = f->set_format(a);
    if (status == ARCHIVE_OK) status = f->add_filter(a);
    if (status == ARCHIVE_OK) status = archive_write_set_bytes_in_last_block(a, strcmp(format, "tar") ? 1 : 0);
    if (status == ARCHIVE_OK && f->level_option) {
        char options[64];
        snprintf(options, sizeof options, "%s:compression-level=%d", f->level_option, level);
        status = archive_write_set_options(a, options);
    }
    if (status == ARCHIVE_OK && f->options) status = archive_write_set_options(a, f->options);
    if (status == ARCHIVE_OK) status = archive_write_open_fd(a, fd);
    if (status == ARCHIVE_OK) return a;
    archive_fail(a, path, e);
    archive_write_free(a);
    return NULL;
}

struct writing {
    struct archive *archive;
    const char *path, *top;
    uint64_t done;
    void (*progress)(void *ctx, uint64_t bytes);
    void *ctx;
};

static int write_data(struct writing *w, const void *data, size_t size, struct mbl_error *e) {
    for (size_t at = 0; at < size;) {
        la_ssize_t n = archive_write_data(w->archive, (const char *)data + at, size - at);
        if (n <= 0) return archive_fail(w->archive, w->path, e);
        at += (size_t)n;
    }
    w->done += size;
    if (w->progress) w->progress(w->ctx, w->done);
    return 0;
}

/* The file must still be what was hashed, or the manifest would lie. */
static int write_file(struct writing *w, const struct mbl_member *m, struct mbl_error *e) {
    int fd = open(m->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return mbl_error_errno(e, "%s", m->path);
    enum { CHUNK = 1 << 18 };
    char *chunk = mbl_alloc(CHUNK);
    uint64_t total = 0;
    int status = 0;
    while (!status) {
        ssize_t n = read(fd, chunk, CHUNK);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) status = mbl_error_errno(e, "%s", m->path);
        if (n <= 0) break;
        total += (uint64_t)n;
        status = total > m->size ? mbl_error_set(e, "%s grew while it was packed", m->path) : write_data(w, chunk, (size_t)n, e);
    }
    if (!status && total < m->size) status = mbl_error_set(e, "%s shrank while it was packed", m->path);
    free(chunk);
    close(fd);
    return status;
}

static int write_member(struct writing *w, const struct mbl_member *m, struct mbl_error *e) {
    struct archive_entry *entry = archive_entry_new();
    char *name = mbl_printf("%s/%s", w->top, m->name);
    archive_entry_set_pathname(entry, name);
    archive_entry_update_pathname_utf8(entry, name);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, m->executable ? 0755 : 0644);
    archive_entry_set_size(entry, (la_int64_t)m->size);
    archive_entry_set_mtime(entry, FIXED_TIME, 0);
    archive_entry_set_uid(entry, 0);
    archive_entry_set_gid(entry, 0);
    int status = archive_write_header(w->archive, entry) == ARCHIVE_OK ? 0 : archive_fail(w->archive, w->path, e);
    if (!status) status = m->path ? write_file(w, m, e) : write_data(w, m->data, m->size, e);
    archive_entry_free(entry);
    free(name);
    return status ? mbl_error_wrap(e, "packing %s", m->name) : 0;
}

int mbl_bundle_write(const char *path, const char *format, int level, const char *top, const struct mbl_json *manifest,
                     const struct mbl_member *members, size_t count, void (*progress)(void *ctx, uint64_t bytes), void *ctx,
                     struct mbl_error *e) {
    struct mbl_buf text = {0};
    mbl_json_write(manifest, MBL_JSON_INDENTED, &text);
    struct mbl_member own = {.name = "manifest.json", .data = mbl_buf_str(&text), .size = text.len};
    if (!name_is_safe(top) || strchr(top, '/')) {
        mbl_buf_free(&text);
        return mbl_error_set(e, "\"%s\" can't be the name of a bundle's folder", top);
    }
    setenv("TZ", "UTC", 1);         /* zip tells local time */
    setlocale(LC_CTYPE, "C.UTF-8"); /* libarchive turns names into the locale's characters */
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) {
        mbl_buf_free(&text);
        return mbl_error_errno(e, "%s", path);
    }
    struct writing w = {.archive = open_archive(fd, path, format, level, e), .path = path, .top = top, .progress = progress, .ctx = ctx};
    int status = w.archive ? 0 : -1;
    bool own_written = false;
    for (size_t i = 0; i < count && !status; i++) {
        if (!own_written && compare_members(&own, &members[i]) < 0) {
            own_written = true;
            status = write_member(&w, &own, e);
        }
        if (!status) status = write_member(&w, &members[i], e);
    }
    if (!status && !own_written) status = write_member(&w, &own, e);
    if (!status && archive_write_close(w.archive) != ARCHIVE_OK) status = archive_fail(w.archive, path, e);
    if (w.archive) archive_write_free(w.archive);
    if (close(fd) && !status) status = mbl_error_errno(e, "%s", path);
    mbl_buf_free(&text);
    return status;
}
