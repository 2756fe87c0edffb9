/* archive.h: a file's bytes, unpacked on the way if they are compressed: gzip, xz, lzma, bzip2, zstd or plain, told by content, by
 * libarchive. */
#ifndef MBL_ARCHIVE_H
#define MBL_ARCHIVE_H

#include "memory.h"

struct mbl_stream;

/* Opens a file. The error names it. */
MBL_EXPORT int mbl_stream_open(const char *path, struct mbl_stream **out, struct mbl_error *e);

/* The same on bytes in memory, which must outlive it; they are taken as they are, without unpacking. */
MBL_EXPORT struct mbl_stream *mbl_stream_memory(const void *data, size_t size, const char *name);

/* Up to `size` bytes into `to`; *got is 0 just at the end. Damaged or truncated compressed data is an error. */
MBL_EXPORT int mbl_stream_read(struct mbl_stream *s, void *to, size_t size, size_t *got, struct mbl_error *e);

/* All that is left, at most `most` bytes, appended to out. */
MBL_EXPORT int mbl_stream_all(struct mbl_stream *s, size_t most, struct mbl_buf *out, struct mbl_error *e);

MBL_EXPORT const char *mbl_stream_name(const struct mbl_stream *s);
MBL_EXPORT uint64_t mbl_stream_done(const struct mbl_stream *s); /* bytes of the file that were read so far, of … */
MBL_EXPORT uint64_t mbl_stream_size(const struct mbl_stream *s); /* … this many; for progress */
MBL_EXPORT void mbl_stream_close(struct mbl_stream *s);          /* NULL is fine */

#endif
