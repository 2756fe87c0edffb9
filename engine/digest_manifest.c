/* digest_manifest.c: folders as sorted text; see digest_manifest.h. It reads folders, never the files in them. */
#include "digest_manifest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* -- writing */

struct walk {
    struct manifest manifest;
    struct buf path;         /* of what is looked at */
    size_t root;             /* how much of it is the folder that is walked, and its slash */
    manifest_leaf *leaf;
    void *ctx;
};

static void add_entry(struct walk *w, const struct artifact *a) {
    struct manifest *m = &w->manifest;
    m->entries = mem_grow(m->entries, &m->cap, m->count + 1, sizeof *m->entries);
    const char *path = arena_strndup(&m->arena, w->path.data + w->root, w->path.len - w->root);
    m->entries[m->count++] = (struct manifest_entry){.artifact = *a, .path = path};
}

static void cut_path(struct walk *w, size_t length) {
    w->path.len = length;
    w->path.data[length] = 0;
}

static int walk_folder(struct walk *w, struct err *e);

static int walk_entry(struct walk *w, struct err *e) {
    struct file_stat st;
    struct artifact a = {0};
    const char *path = buf_str(&w->path);
    if (sys_stat(path, true, &st, e)) return -1;
    switch (st.kind) {
    case FILE_ABSENT: return err_set(e, "%s vanished while its folder was read", path);
    case FILE_OTHER: return err_set(e, "%s is neither file, folder nor link", path);
    case FILE_FOLDER: return walk_folder(w, e);
    default: break;
    }
    if (w->leaf(w->ctx, path, &st, &a, e)) return -1;
    add_entry(w, &a);
    return 0;
}

static int walk_folder(struct walk *w, struct err *e) {
    char **names;
    uint32_t count;
    size_t length = w->path.len;
    if (sys_list(buf_str(&w->path), &names, &count, e)) return -1;
    if (!count && length > w->root) {
        struct artifact empty = {.type = ARTIFACT_FOLDER, .digest = digest_bytes("", 0)};
        add_entry(w, &empty);
    }
    int status = 0;
    for (uint32_t i = 0; i < count && !status; i++) {
        buf_addc(&w->path, '/');
        buf_adds(&w->path, names[i]);
        status = walk_entry(w, e);
        cut_path(w, length);
    }
    free(names);
    return status;
}

static int compare_entries(const void *a, const void *b) {
    return strcmp(((const struct manifest_entry *)a)->path, ((const struct manifest_entry *)b)->path);
}

static void write_entry(const struct manifest_entry *entry, struct buf *text) {
    char hex[DIGEST_HEX + 1];
    digest_to_hex(&entry->artifact.digest, hex);
    buf_addf(text, "%c %s %llu ", entry->artifact.type, hex, (unsigned long long)entry->artifact.size);
    buf_add(text, entry->path, strlen(entry->path) + 1);
}

int manifest_walk(const char *folder, manifest_leaf *leaf, void *ctx, struct artifact *out, struct buf *text,
                  struct err *e) {
    struct walk w = {.leaf = leaf, .ctx = ctx};
    buf_adds(&w.path, folder);
    w.root = w.path.len + 1;
    int status = walk_folder(&w, e);
    if (!status) {
        size_t start = text->len;
        struct manifest *m = &w.manifest;
        if (m->count) qsort(m->entries, m->count, sizeof *m->entries, compare_entries);
        *out = (struct artifact){.type = ARTIFACT_FOLDER};
        for (uint32_t i = 0; i < m->count; i++) {
            if (m->entries[i].artifact.type != ARTIFACT_LINK) out->size += m->entries[i].artifact.size;
            write_entry(&m->entries[i], text);
        }
        out->digest = digest_bytes(buf_str(text) + start, text->len - start);
    }
    manifest_free(&w.manifest);
    buf_free(&w.path);
    return status;
}

void manifest_free(struct manifest *m) {
    free(m->entries);
    arena_free(&m->arena);
    memset(m, 0, sizeof *m);
}

/* -- reading */

static bool path_is_plain(const char *path) {
    for (const char *p = path;;) {
        size_t n = strcspn(p, "/");
        if (!n || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.')) return false;
        if (!p[n]) return true;
        p += n + 1;
    }
}

/* Parses "TYPE HEX SIZE PATH\0"; returns what follows, or NULL. */
static const char *parse_entry(const char *p, const char *end, struct manifest_entry *out) {
    const char *nul = memchr(p, 0, (size_t)(end - p));
    if (!nul || nul - p < 2 + DIGEST_HEX + 4 || p[1] != ' ' || p[2 + DIGEST_HEX] != ' ') return NULL;
    if (*p != ARTIFACT_FILE && *p != ARTIFACT_EXECUTABLE && *p != ARTIFACT_LINK && *p != ARTIFACT_FOLDER) return NULL;
    out->artifact.type = (enum artifact_type)*p;
    char hex[DIGEST_HEX + 1];
    memcpy(hex, p + 2, DIGEST_HEX);
    hex[DIGEST_HEX] = 0;
    if (digest_from_hex(hex, &out->artifact.digest)) return NULL;
    p += 3 + DIGEST_HEX;
    const char *digits = p;
    uint64_t size = 0;
    for (; *p >= '0' && *p <= '9'; p++) {
        if (size > (UINT64_MAX - 9) / 10) return NULL;
        size = size * 10 + (uint64_t)(*p - '0');
    }
    if (p == digits || *p != ' ' || (*digits == '0' && p > digits + 1)) return NULL;
    out->artifact.size = size;
    out->path = p + 1;
    if (!path_is_plain(out->path)) return NULL;
    if (*digits != '0' && out->artifact.type == ARTIFACT_FOLDER) return NULL;
    return nul + 1;
}

/* Whether the first `length` bytes of `path` are an entry of their own. */
static bool has_entry(const struct manifest *m, const char *path, size_t length) {
    uint32_t low = 0, high = m->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const char *other = m->entries[middle].path;
        int order = strncmp(other, path, length);
        if (!order && other[length]) order = 1;
        if (!order) return true;
        if (order < 0) low = middle + 1;
        else high = middle;
    }
    return false;
}

/* Whether an entry lies below another one, which might be a link to anywhere. What the path shares with the one before
 * it was looked at with that. */
static bool lies_below_entry(const struct manifest *m, uint32_t index) {
    const char *path = m->entries[index].path, *before = index ? m->entries[index - 1].path : "";
    size_t same = 0;
    while (path[same] && path[same] == before[same]) same++;
    for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
        size_t length = (size_t)(slash - path);
        if (length < same) continue;
        if (has_entry(m, path, length)) return true;
    }
    return false;
}

int manifest_parse(const char *text, size_t length, struct manifest *out, struct err *e) {
    const struct digest empty = digest_bytes("", 0);
    memset(out, 0, sizeof *out);
    for (const char *p = text, *end = text + length; p < end;) {
        struct manifest_entry entry;
        const char *next = parse_entry(p, end, &entry);
        bool ordered = !out->count || (next && strcmp(out->entries[out->count - 1].path, entry.path) < 0);
        bool filled = next && entry.artifact.type == ARTIFACT_FOLDER && !digest_same(&entry.artifact.digest, &empty);
        if (!next || !ordered || filled || out->count == UINT32_MAX - 1) {
            manifest_free(out);
            return err_set(e, "a folder's manifest is malformed at byte %zu", (size_t)(p - text));
        }
        out->entries = mem_grow(out->entries, &out->cap, out->count + 1, sizeof *out->entries);
        out->entries[out->count++] = entry;
        p = next;
    }
    for (uint32_t i = 0; i < out->count; i++) {
        if (!lies_below_entry(out, i)) continue;
        err_set(e, "a folder's manifest has an entry below another: %s", out->entries[i].path);
        manifest_free(out);
        return -1;
    }
    return 0;
}
