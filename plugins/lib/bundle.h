/* bundle.h: archives that say what is in them: written the same each time, and checked file by file.
 *
 * A bundle has one folder at the top and in it manifest.json with the size and SHA-256 of every other file. Members are regular files,
 * sorted by name, of fixed time (1980-01-01, which zip can tell too), owner (0) and mode (0644, 0755), so that equal contents are equal
 * bytes.
 */
#ifndef MBL_BUNDLE_H
#define MBL_BUNDLE_H

#include "json.h"
#include "sha256.h"

#define MBL_BUNDLE_FORMATS "tar.zst", "tar.gz", "tar", "zip"

struct mbl_member {
    const char *name;   /* within the top folder: "model/config.json" */
    const char *path;   /* the file it comes from, or NULL and: */
    const void *data;
    uint64_t size;      /* of data; of a file it is filled in */
    bool executable;
    char sha256[MBL_SHA256_HEX + 1]; /* filled in */
};

/* Hashes the members, those that have no digest yet, and sorts them. Two of one name, and names that lead out of the folder, are errors. */
MBL_EXPORT int mbl_bundle_prepare(struct mbl_member *members, size_t count, struct mbl_error *e);

/* The manifest of prepared members: { "kind": "bundle", "format": 1, "name", "version", "files": [ { "path", "sha256", "size" } ] }. */
MBL_EXPORT struct mbl_json *mbl_bundle_manifest(const char *name, const char *version, const struct mbl_member *members, size_t count,
                                                struct mbl_arena *a);

/* Writes prepared members and their manifest below the folder `top`. `format` is one of MBL_BUNDLE_FORMATS; level: zstd 1 to 19, gzip and
 * zip 1 to 9. Fails if a file is no longer what it was when it was hashed. `progress` may be NULL. */
MBL_EXPORT int mbl_bundle_write(const char *path, const char *format, int level, const char *top, const struct mbl_json *manifest,
                                const struct mbl_member *members, size_t count, void (*progress)(void *ctx, uint64_t bytes), void *ctx,
                                struct mbl_error *e);

/* What a bundle turned out to hold. */
struct mbl_bundle {
    struct mbl_arena arena;
    const char *top;              /* the folder at the top */
    struct mbl_json *manifest;    /* NULL if there is none, or none that can be read */
    size_t files;                 /* that the manifest lists and that are as it says */
    uint64_t bytes;               /* of these */
    const char **problems;        /* one line each, that names the file: none, and the bundle is whole */
    size_t problem_count, problem_cap;
    const char **kept_names, **kept_texts; /* small JSON files, for those who look for figures */
    size_t kept_count, kept_cap;
};

/* Reads the archive from end to end; believes nothing, unpacks nothing to disk. Fails only if it can't be opened; all that is wrong in it
 * is a problem. */
MBL_EXPORT int mbl_bundle_check(const char *path, struct mbl_bundle *out, struct mbl_error *e);
MBL_EXPORT const char *mbl_bundle_text(const struct mbl_bundle *b,
                                       const char *name); /* of a kept file, by its name in the top folder; NULL if there is none */
MBL_EXPORT void mbl_bundle_free(struct mbl_bundle *b);

#endif
