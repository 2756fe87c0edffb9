/* digest.h: SHA-256 of bytes, files and folders, and what identifies an artifact. */
#ifndef ENGINE_DIGEST_H
#define ENGINE_DIGEST_H

#include "err.h"
#include "mem.h"
#include "sys.h"

#define DIGEST_HEX 64

struct digest {
    unsigned char bytes[32];
};

/* An artifact's content: what it is and its digest. A folder's digest is that of its manifest (see store.h). */
enum artifact_type { ARTIFACT_NONE = 0, ARTIFACT_FILE = 'f', ARTIFACT_EXECUTABLE = 'x', ARTIFACT_LINK = 'l', ARTIFACT_FOLDER = 'd' };
struct artifact {
    enum artifact_type type;
    struct digest digest;
    uint64_t size; /* bytes of the file, or of all files in the folder */
};
bool artifact_same(const struct artifact *a, const struct artifact *b); /* type and digest */

/* Fetches the algorithm; call once before any fork, so that children don't pay for it. */
void digest_init(void);

struct digest_context; /* incremental */
struct digest_context *digest_begin(void);
void digest_add(struct digest_context *c, const void *bytes, size_t n);
void digest_add_string(struct digest_context *c, const char *s); /* length-prefixed, so that no two sequences collide */
void digest_add_u64(struct digest_context *c, uint64_t n);
struct digest digest_end(struct digest_context *c);             /* and frees it */

struct digest digest_bytes(const void *bytes, size_t n);
void digest_to_hex(const struct digest *d, char hex[DIGEST_HEX + 1]);
int digest_from_hex(const char *hex, struct digest *d); /* -1 if it isn't 64 hex digits */
bool digest_same(const struct digest *a, const struct digest *b);

/* Reads a file, link or folder (recursively, links inside not followed) and says what it is. Absent: type ARTIFACT_NONE.
 * A path that is itself a link is followed if `follow`. For a folder, *manifest (may be NULL) gets the manifest's text.
 * Thread-safe. Sockets, devices and the like are an error that names them. */
int digest_path(const char *path, bool follow, struct artifact *out, struct buf *manifest, struct err *e);

#endif
