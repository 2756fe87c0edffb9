/* bundle_check.c: what is in a bundle, against what it says is in it; see bundle.h. The archive may be anybody's: nothing of it
 * reaches the disk, and what is kept in memory is bounded. */
#include "bundle.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MANIFEST_MOST (64u << 20)
#define KEPT_MOST (4u << 20)      /* a JSON file that is kept */
#define KEPT_TOTAL (64u << 20)
#define PROBLEMS_MOST 100
#define MEMBERS_MOST 1000000
#define CHUNK (1u << 18)

/* A member as it was found. */
struct found {
    const char *name; /* within the top folder */
    unsigned char digest[MBL_SHA256];
    uint64_t size;
    bool listed;
};

struct checking {
    struct mbl_bundle *bundle;
    struct found *found;
    size_t count, cap, kept_bytes;
    struct mbl_buf manifest;
    bool has_manifest, stopped;
    const char *last; /* the name of the member before */
};

static void problem(struct checking *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void problem(struct checking *c, const char *format, ...) {
    struct mbl_bundle *b = c->bundle;
    if (b->problem_count >= PROBLEMS_MOST) return;
    va_list args;
    va_start(args, format);
    char text[2048];
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (char *p = text; *p; p++) /* names in an archive may hold anything, a terminal's commands too */
        if ((unsigned char)*p < ' ' || *p == 127) *p = '?';
    b->problems = mbl_grow(b->problems, &b->problem_cap, b->problem_count + 1, sizeof *b->problems);
    b->problems[b->problem_count] = b->problem_count == PROBLEMS_MOST - 1 ? "… and more" : mbl_arena_strdup(&b->arena, text);
    b->problem_count++;
}

/* The name within the top folder, or NULL after telling what is wrong with it. */
static const char *inner_name(struct checking *c, const char *name) {
    struct mbl_bundle *b = c->bundle;
    const char *slash = strchr(name, '/');
    for (const char *p = name;; p++) {
        size_t n = strcspn(p, "/");
        if (!n || (n == 1 && *p == '.') || (n == 2 && p[0] == '.' && p[1] == '.')) {
            problem(c, "%s: the name leads out of the bundle's folder, or nowhere", name);
            return NULL;
        }
        p += n;
        if (!*p) break;
    }
    if (!slash) {
        problem(c, "%s: it lies beside the bundle's folder", name);
        return NULL;
    }
    size_t n = (size_t)(slash - name);
    if (!b->top) b->top = mbl_arena_strndup(&b->arena, name, n);
    if (strlen(b->top) != n || memcmp(b->top, name, n)) {
        problem(c, "%s: it lies outside of the bundle's folder %s", name, b->top);
        return NULL;
    }
    return mbl_arena_strdup(&b->arena, slash + 1);
}

static void keep(struct checking *c, const char *name, const struct mbl_buf *text) {
    struct mbl_bundle *b = c->bundle;
    size_t cap = b->kept_cap;
    b->kept_names = mbl_grow(b->kept_names, &cap, b->kept_count + 1, sizeof *b->kept_names);
    b->kept_texts = mbl_grow(b->kept_texts, &b->kept_cap, b->kept_count + 1, sizeof *b->kept_texts);
    b->kept_names[b->kept_count] = name;
    b->kept_texts[b->kept_count++] = mbl_arena_strndup(&b->arena, mbl_buf_str(text), text->len);
    c->kept_bytes += text->len;
}

/* Reads one member's bytes: hashes them, and keeps them if they are the manifest or small JSON. */
static void read_member(struct checking *c, struct archive *a, const char *name, char *chunk) {
    struct mbl_sha256 *h = mbl_sha256_begin();
    struct mbl_buf text = {0};
    bool is_manifest = !strcmp(name, "manifest.json") && !c->has_manifest;
    size_t n = strlen(name), most = is_manifest ? MANIFEST_MOST : KEPT_MOST;
    bool keeps = is_manifest || (n > 5 && !strcmp(name + n - 5, ".json") && c->kept_bytes < KEPT_TOTAL);
    struct found f = {.name = name};
    la_ssize_t got;
    while ((got = archive_read_data(a, chunk, CHUNK)) > 0) {
        mbl_sha256_add(h, chunk, (size_t)got);
        f.size += (uint64_t)got;
        keeps = keeps && f.size <= most;
        if (keeps) mbl_buf_add(&text, chunk, (size_t)got);
    }
    mbl_sha256_end(h, f.digest);
    if (got < 0) {
        const char *why = archive_error_string(a);
        problem(c, "%s: it can't be unpacked after %llu bytes: %s", name, (unsigned long long)f.size, why ? why : "damaged");
        c->stopped = true;
    } else if (is_manifest && !keeps) {
        problem(c, "manifest.json: it is larger than %u MiB", MANIFEST_MOST >> 20);
    } else if (is_manifest) {
        c->has_manifest = true;
        c->manifest = text;
        text = (struct mbl_buf){0};
    } else if (keeps) {
        keep(c, name, &text);
    }
    mbl_buf_free(&text);
    if (is_manifest) return;
    c->found = mbl_grow(c->found, &c->cap, c->count + 1, sizeof *c->found);
    c->found[c->count++] = f;
}

static void read_members(struct checking *c, struct archive *a) {
    char *chunk = mbl_alloc(CHUNK);
    struct archive_entry *entry;
    int status = ARCHIVE_OK;
    while (!c->stopped && (status = archive_read_next_header(a, &entry)) == ARCHIVE_OK) {
        const char *raw = archive_entry_pathname(entry);
        if (!raw) {
            problem(c, "a member has no name, or one that isn't UTF-8");
            continue;
        }
        const char *name = inner_name(c, raw);
        if (!name) continue;
        c->last = name;
        if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry) || archive_entry_symlink(entry)) {
            problem(c, "%s: it is no regular file", name);
            continue;
        }
        if (c->count >= MEMBERS_MOST) {
            problem(c, "there are more than %d files", MEMBERS_MOST);
            break;
        }
        read_member(c, a, name, chunk);
    }
    if (!c->stopped && status != ARCHIVE_EOF && status != ARCHIVE_OK) {
        const char *why = archive_error_string(a);
        problem(c, "%s%s: %s", c->last ? "damaged after " : "no archive, or a damaged one", c->last ? c->last : "",
                why ? why : "the data makes no sense");
        c->stopped = true;
    }
    free(chunk);
}

static int compare_found(const void *a, const void *b) {
    return strcmp(((const struct found *)a)->name, ((const struct found *)b)->name);
}

static bool is_hex(const char *s) {
    return s && strlen(s) == MBL_SHA256_HEX && strspn(s, "0123456789abcdef") == MBL_SHA256_HEX;
}

static void compare_file(struct checking *c, const struct mbl_json *listed) {
    const char *path = mbl_json_get_string(listed, "path"), *digest = mbl_json_get_string(listed, "sha256");
    int64_t size = mbl_json_get_int(listed, "size", -1);
    if (!path || !is_hex(digest) || size < 0) {
        problem(c, "manifest.json: an entry without path, sha256 or size");
        return;
    }
    struct found key = {.name = path}, *f = c->count ? bsearch(&key, c->found, c->count, sizeof *c->found, compare_found) : NULL;
    if (!f) {
        if (!c->stopped) problem(c, "%s: the manifest lists it, but it is missing", path);
        return;
    }
    if (f->listed) {
        problem(c, "%s: the manifest lists it twice", path);
        return;
    }
    f->listed = true;
    char hex[MBL_SHA256_HEX + 1];
    mbl_sha256_text(f->digest, hex);
    if (f->size != (uint64_t)size) {
        problem(c, "%s: it has %llu bytes, and %lld by the manifest", path, (unsigned long long)f->size, (long long)size);
    } else if (strcmp(hex, digest)) {
        problem(c, "%s: it was altered: SHA-256 is %s, and %s by the manifest", path, hex, digest);
    } else {
        c->bundle->files++;
        c->bundle->bytes += f->size;
    }
}

static void compare_manifest(struct checking *c) {
    struct mbl_bundle *b = c->bundle;
    struct mbl_error e;
    if (!c->has_manifest) {
        if (!c->stopped) problem(c, "there is no manifest.json, so it is no bundle that mbuild made");
        return;
    }
    if (mbl_json_parse(mbl_buf_str(&c->manifest), c->manifest.len, "manifest.json", &b->arena, &b->manifest, &e)) {
        problem(c, "%s", e.text);
        b->manifest = NULL;
        return;
    }
    const struct mbl_json *files = mbl_json_get(b->manifest, "files");
    const char *kind = mbl_json_get_string(b->manifest, "kind");
    if (!kind || strcmp(kind, "bundle") || !files || files->type != MBL_JSON_LIST || mbl_json_get_int(b->manifest, "format", 0) != 1) {
        problem(c, "manifest.json: it isn't the manifest of a bundle, or one of a newer mbuild");
        return;
    }
    if (c->count) qsort(c->found, c->count, sizeof *c->found, compare_found);
    for (size_t i = 1; i < c->count; i++)
        if (!strcmp(c->found[i].name, c->found[i - 1].name)) problem(c, "%s: it is in the archive twice", c->found[i].name);
    for (size_t i = 0; i < files->count; i++) compare_file(c, files->items[i]);
    for (size_t i = 0; i < c->count; i++)
        if (!c->found[i].listed && (!i || strcmp(c->found[i].name, c->found[i - 1].name)))
            problem(c, "%s: the manifest doesn't list it", c->found[i].name);
}

int mbl_bundle_check(const char *path, struct mbl_bundle *out, struct mbl_error *e) {
    memset(out, 0, sizeof *out);
    struct checking c = {.bundle = out};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return mbl_error_errno(e, "%s", path);
    setlocale(LC_CTYPE, "C.UTF-8"); /* libarchive turns names into the locale's characters */
    struct archive *a = archive_read_new();
    if (!a) {
        close(fd);
        return mbl_error_set(e, "out of memory");
    }
    archive_read_support_format_tar(a);
    archive_read_support_format_zip(a);
    archive_read_support_filter_zstd(a);
    archive_read_support_filter_gzip(a);
    if (archive_read_open_fd(a, fd, CHUNK) != ARCHIVE_OK) {
        const char *why = archive_error_string(a);
        problem(&c, "no archive, or a damaged one: %s", why ? why : "its format isn't known");
        c.stopped = true;
    } else {
        read_members(&c, a);
        compare_manifest(&c);
    }
    archive_read_free(a);
    close(fd);
    free(c.found);
    mbl_buf_free(&c.manifest);
    return 0;
}

const char *mbl_bundle_text(const struct mbl_bundle *b, const char *name) {
    for (size_t i = 0; i < b->kept_count; i++)
        if (!strcmp(b->kept_names[i], name)) return b->kept_texts[i];
    return NULL;
}

void mbl_bundle_free(struct mbl_bundle *b) {
    free(b->problems);
    free(b->kept_names);
    free(b->kept_texts);
    mbl_arena_free(&b->arena);
    memset(b, 0, sizeof *b);
}
