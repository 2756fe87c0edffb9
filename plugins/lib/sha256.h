/* sha256.h: SHA-256 of bytes and files, and the files of a folder in a fixed order. */
#ifndef MBL_SHA256_H
#define MBL_SHA256_H

#include "files.h"
#include <stdbool.h>

#define MBL_SHA256 32
#define MBL_SHA256_HEX 64

/* Piece by piece; the end frees. */
struct mbl_sha256;
MBL_EXPORT struct mbl_sha256 *mbl_sha256_begin(void);
MBL_EXPORT void mbl_sha256_add(struct mbl_sha256 *h, const void *data, size_t size);
MBL_EXPORT void mbl_sha256_end(struct mbl_sha256 *h, unsigned char out[MBL_SHA256]);

MBL_EXPORT void mbl_sha256_of(const void *data, size_t size, unsigned char out[MBL_SHA256]);
MBL_EXPORT void mbl_sha256_text(const unsigned char digest[MBL_SHA256], char hex[MBL_SHA256_HEX + 1]);
MBL_EXPORT void mbl_sha256_hex(const void *data, size_t size, char hex[MBL_SHA256_HEX + 1]);

/* Of a file; *size may be NULL. */
MBL_EXPORT int mbl_sha256_file(const char *path, unsigned char out[MBL_SHA256], uint64_t *size, struct mbl_error *e);

/* The regular files of a folder, at any depth, by their paths within it, sorted by bytes. A link, or anything else that is neither file nor
 * folder, is an error: what it leads to would not be what was looked at. */
struct mbl_tree_file {
    const char *name; /* "sub/weights.bin" */
    const char *path; /* FOLDER/name */
    uint64_t size;
    bool executable;
};
MBL_EXPORT int mbl_tree_list(const char *folder, struct mbl_arena *a, struct mbl_tree_file **files, size_t *count, struct mbl_error *e);

#endif
