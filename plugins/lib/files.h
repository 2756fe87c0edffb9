/* files.h: reading and writing files in steps: whole, mapped, or atomically. */
#ifndef MBL_FILES_H
#define MBL_FILES_H

#include "memory.h"

/* A file in memory, read-only. An empty file has size 0 and data that is not NULL. */
struct mbl_map {
    const unsigned char *data;
    size_t size;
};
MBL_EXPORT int mbl_map_open(const char *path, struct mbl_map *out, struct mbl_error *e); /* a regular file, or an error */
MBL_EXPORT void mbl_map_close(struct mbl_map *m);

/* Reads a file of at most `most` bytes, NUL-terminated, into out (which is cleared first). */
MBL_EXPORT int mbl_file_read(const char *path, size_t most, struct mbl_buf *out, struct mbl_error *e);

/* Writes a file whole or not at all: to a temporary name beside it, then synced and renamed. */
MBL_EXPORT int mbl_file_write(const char *path, const void *data, size_t size, struct mbl_error *e);

/* The same, piece by piece: create, write (with pwrite or append to `fd`), then commit or abandon. */
struct mbl_output {
    int fd;
    char *path, *temporary;
};
MBL_EXPORT int mbl_output_create(struct mbl_output *o, const char *path, struct mbl_error *e);
MBL_EXPORT int mbl_output_append(struct mbl_output *o, const void *data, size_t size, struct mbl_error *e);
MBL_EXPORT int mbl_output_pwrite(struct mbl_output *o, const void *data, size_t size, uint64_t offset, struct mbl_error *e);
MBL_EXPORT int mbl_output_commit(struct mbl_output *o, struct mbl_error *e); /* frees in any case; on failure the file is not there */
MBL_EXPORT void mbl_output_abandon(struct mbl_output *o);                    /* nothing if already committed */

MBL_EXPORT int mbl_folder_make(const char *path, struct mbl_error *e); /* with its parents; fine if it is there */
MBL_EXPORT char *mbl_path_join(struct mbl_arena *a, const char *folder, const char *name);

#endif
