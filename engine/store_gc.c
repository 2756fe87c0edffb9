/* store_gc.c: removing objects that nobody needs, and finding damaged ones; see store.h.
 *
 * Builds may run beside it. They touch what they find in the store before they rely on it, so what is young stays; and
 * an object is taken away under another name first and looked at once more, so that a touch in between is seen.
 */
#include "store_private.h"
#include "sys_call.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct object {
    struct digest digest;
    uint64_t size;
    int64_t mtime_s;
    bool keep;
};

struct objects {
    struct object *items; /* sorted by digest, as the listing is */
    uint32_t count, cap;
};

/* -- listing */

static int list_fan(struct store *s, const char *fan, struct objects *all, struct err *e) {
    char *folder = mem_printf("%s/%s", s->folder, fan), **names;
    uint32_t count;
    int status = sys_list(folder, &names, &count, e);
    free(folder);
    if (status) return -1;
    for (uint32_t i = 0; i < count; i++) {
        struct object o = {.keep = false};
        char name[OBJECT_NAME], hex[DIGEST_HEX + 1];
        struct stat st;
        if (strlen(names[i]) != DIGEST_HEX - 2) continue;
        snprintf(hex, sizeof hex, "%.2s%.62s", fan, names[i]);
        if (digest_from_hex(hex, &o.digest)) continue;
        object_name(&o.digest, name);
        if (fstatat(s->fd, name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode)) continue;
        o.size = (uint64_t)st.st_size;
        o.mtime_s = st.st_mtim.tv_sec;
        all->items = mem_grow(all->items, &all->cap, all->count + 1, sizeof *all->items);
        all->items[all->count++] = o;
    }
    free(names);
    return 0;
}

static int list_objects(struct store *s, struct objects *all, struct err *e) {
    memset(all, 0, sizeof *all);
    for (int i = 0; i < 256; i++) {
        char fan[3];
        struct stat st;
        snprintf(fan, sizeof fan, "%02x", i);
        if (fstatat(s->fd, fan, &st, 0) || !S_ISDIR(st.st_mode)) continue;
        if (list_fan(s, fan, all, e)) {
            free(all->items);
            return -1;
        }
    }
    return 0;
}

static int compare_objects(const void *key, const void *object) {
    return memcmp(key, ((const struct object *)object)->digest.bytes, sizeof(struct digest));
}

/* -- marking */

/* Whether the object may be a manifest, by its first bytes: "TYPE HEX SIZE …". Files that look so by accident only keep more. */
static bool looks_like_manifest(struct store *s, const struct object *o) {
    char name[OBJECT_NAME], head[3 + DIGEST_HEX];
    if (o->size < sizeof head) return false;
    object_name(&o->digest, name);
    int fd = sys_call_open(s->fd, name, O_RDONLY | O_NOFOLLOW, 0);
    if (fd < 0) return false;
    ssize_t n = sys_call_read(fd, head, sizeof head);
    close(fd);
    return n == sizeof head && head[1] == ' ' && head[2 + DIGEST_HEX] == ' ' && strchr("fxld", head[0])
        && strspn(head + 2, "0123456789abcdef") == DIGEST_HEX;
}

static int keep_entries(struct store *s, struct objects *all, const struct object *o, struct err *e) {
    struct buf text = {0};
    struct manifest m = {0};
    bool corrupt = false;
    struct err malformed;
    int status = store_read_object(s, &o->digest, &text, &corrupt, e);
    if (!status && !manifest_parse(buf_str(&text), text.len, &m, &malformed)) {
        for (uint32_t i = 0; i < m.count; i++) {
            struct object *named = bsearch(&m.entries[i].artifact.digest, all->items, all->count, sizeof *all->items,
                                           compare_objects);
            if (named) named->keep = true;
        }
    }
    manifest_free(&m);
    buf_free(&text);
    return corrupt ? 0 : status; /* a damaged one keeps nothing: it can't be restored */
}

static int mark(struct store *s, struct objects *all, bool (*keep)(void *ctx, const struct digest *d), void *ctx,
                struct err *e) {
    for (uint32_t i = 0; i < all->count; i++) {
        struct object *o = &all->items[i];
        if (!keep(ctx, &o->digest)) continue;
        o->keep = true;
        if (looks_like_manifest(s, o) && keep_entries(s, all, o, e)) return -1;
    }
    return 0;
}

/* -- sweeping */

/* Removes an object unless somebody touched it since it was listed; *removed says which. */
static int sweep(struct store *s, const struct object *o, bool *removed, struct err *e) {
    char name[OBJECT_NAME], temp[64];
    struct stat st;
    object_name(&o->digest, name);
    *removed = false;
    if (store_temp(s, temp, e)) return -1;
    if (sys_call_rename(s->fd, name, s->fd, temp, 0)) {
        if (errno == ENOENT) return 0;
        return err_errno(e, "cannot remove the object %s/%s", s->folder, name);
    }
    if (!fstatat(s->fd, temp, &st, AT_SYMLINK_NOFOLLOW) && st.st_mtim.tv_sec != o->mtime_s) {
        if (sys_call_rename(s->fd, temp, s->fd, name, 0))
            return err_errno(e, "cannot put the object %s/%s back", s->folder, name);
        return 0;
    }
    if (sys_call_unlink(s->fd, temp, 0)) return err_errno(e, "cannot remove the object %s/%s", s->folder, name);
    *removed = true;
    return 0;
}

int store_gc(struct store *s, bool (*keep)(void *ctx, const struct digest *d), void *ctx, int64_t min_age_s, bool dry,
             struct store_gc_result *out, struct err *e) {
    struct objects all;
    memset(out, 0, sizeof *out);
    if (list_objects(s, &all, e)) return err_wrap(e, "cannot list the store");
    int64_t now_s = sys_wall_ms() / 1000;
    int status = mark(s, &all, keep, ctx, e);
    for (uint32_t i = 0; i < all.count && !status; i++) {
        const struct object *o = &all.items[i];
        bool removed = !o->keep && now_s - o->mtime_s >= min_age_s;
        if (removed && !dry) status = sweep(s, o, &removed, e);
        if (removed) {
            out->removed++;
            out->removed_bytes += o->size;
        } else {
            out->kept++;
            out->kept_bytes += o->size;
        }
    }
    free(all.items);
    return status;
}

/* -- checking */

static int check_object(struct store *s, const struct digest *d, bool *corrupt, struct err *e) {
    char name[OBJECT_NAME], chunk[STORE_CHUNK];
    ssize_t n;
    object_name(d, name);
    int fd = sys_call_open(s->fd, name, O_RDONLY | O_NOFOLLOW, 0);
    if (fd < 0) return errno == ENOENT ? 0 : err_errno(e, "cannot open the object %s/%s", s->folder, name);
    struct digest_context *c = digest_begin();
    while ((n = sys_call_read(fd, chunk, sizeof chunk)) > 0) digest_add(c, chunk, (size_t)n);
    int number = errno;
    struct digest found = digest_end(c);
    close(fd);
    errno = number;
    if (n < 0 && number != EIO) return err_errno(e, "cannot read the object %s/%s", s->folder, name);
    if (n == 0 && digest_same(&found, d)) return 0;
    return store_drop_damaged(s, d, corrupt, e);
}

int store_check(struct store *s, void (*report)(void *ctx, const char *hex), void *ctx, struct err *e) {
    struct objects all;
    if (list_objects(s, &all, e)) return err_wrap(e, "cannot list the store");
    int status = 0;
    for (uint32_t i = 0; i < all.count && !status; i++) {
        bool corrupt = false;
        status = check_object(s, &all.items[i].digest, &corrupt, e);
        if (!corrupt) continue;
        char hex[DIGEST_HEX + 1];
        digest_to_hex(&all.items[i].digest, hex);
        report(ctx, hex);
        status = 0;
    }
    free(all.items);
    return status;
}
