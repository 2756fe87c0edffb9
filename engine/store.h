/* store.h: the content-addressed store, `.mbuild/store`: objects named by the SHA-256 of their bytes.
 *
 * An object is written to a temporary name, and renamed when whole, so an object that exists is complete unless
 * the disk lies; reading one back checks its digest, and one that doesn't match is dropped and named, never handed on.
 * A folder is stored as a manifest object: for each entry sorted by path, "TYPE HEX SIZE PATH\0" with TYPE f, x, l
 * (digest of the link's text, which is an object as well) or d for an empty folder; PATH may hold any byte but NUL.
 * Thread-safe: any thread may put and get.
 */
#ifndef ENGINE_STORE_H
#define ENGINE_STORE_H

#include "digest.h"

struct store;

int store_open(const char *folder, struct store **out, struct err *e);
void store_close(struct store *s);

bool store_has(struct store *s, const struct artifact *a); /* of a folder: the manifest and all that it names */

/* Puts a copy of a finished file, link or folder into the store (reflink where the file system can) and says what it is. The
 * digest is computed from the bytes that went in. */
int store_put(struct store *s, const char *path, struct artifact *out, struct err *e);
/* The same where the path's stat, links not followed, is known already. */
int store_put_known(struct store *s, const char *path, const struct file_stat *st, struct artifact *out, struct err *e);

/* Brings an artifact to `path` whole or not at all, replacing what is there; checks every digest. -1: *corrupt tells
 * whether an object was absent or damaged (then already dropped, e names it), or something else failed. */
int store_get(struct store *s, const struct artifact *a, const char *path, bool *corrupt, struct err *e);

/* Syncs what was put since the last call, before the database speaks of it. */
int store_sync(struct store *s, struct err *e);

/* Removes objects for which `keep` says no (folders' manifests keep what they name), older than `min_age_s`
 * so that a build beside it loses nothing. */
struct store_gc_result {
    uint64_t removed, removed_bytes, kept, kept_bytes;
};
int store_gc(struct store *s, bool (*keep)(void *ctx, const struct digest *d), void *ctx, int64_t min_age_s, bool dry,
             struct store_gc_result *out, struct err *e);

/* Reads every object and drops the damaged ones, each told to `report`. */
int store_check(struct store *s, void (*report)(void *ctx, const char *hex), void *ctx, struct err *e);

#endif
