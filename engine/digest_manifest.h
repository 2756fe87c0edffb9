/* digest_manifest.h: a folder as text: what lies in it, sorted, with digests. The form is in store.h.
 *
 * An empty folder is an entry of type d with the digest of no bytes and size 0; other folders show in their entries' paths.
 */
#ifndef ENGINE_DIGEST_MANIFEST_H
#define ENGINE_DIGEST_MANIFEST_H

#include "digest.h"

struct manifest_entry {
    struct artifact artifact;
    const char *path;       /* relative to the folder */
};

struct manifest {
    struct manifest_entry *entries; /* sorted by path */
    uint32_t count, cap;
    struct arena arena;     /* holds the paths of a manifest that was walked; a parsed one's point into its text */
};

/* Walks a folder, links not followed; `leaf` says what a file or link in it is. Fails on sockets, devices and the
 * like. `out` gets the folder's digest and size, `text` its manifest. */
typedef int manifest_leaf(void *ctx, const char *path, const struct file_stat *st, struct artifact *out, struct err *e);
int manifest_walk(const char *folder, manifest_leaf *leaf, void *ctx, struct artifact *out, struct buf *text,
                  struct err *e);

/* Reads a manifest's text, which must outlive it. Refuses all but what manifest_walk writes: entries out of order, a
 * path that is absolute or has "", "." or ".." in it, one that lies below another entry: no manifest leads out of its
 * folder. */
int manifest_parse(const char *text, size_t length, struct manifest *out, struct err *e);
void manifest_free(struct manifest *m);

#endif
