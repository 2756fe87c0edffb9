/* sys.h: the one layer over the system's files, processes and clock.
 *
 * Everything in the engine that changes the disk goes through here, so that tests can make each call fail or kill
 * the process there in turn. The rules that make mbuild safe at every instruction:
 * a file appears under its name by rename or link of a complete file, never by writing in place; what the database says
 * exists was synced before; nothing else on disk is believed without its digest.
 *
 * Fault injection: with MBUILD_FAULT=CALL:N[:ERRNO|:KILL] in the environment, the N-th call of that kind (write, fsync,
 * rename, link, open, mkdir, mmap, read, copy, unlink; "any" counts all; "alloc" is memory, apart from these) fails with that errno (default EIO) or kills the process;
 * with "N+" all from the N-th on do.
 * Costs one load and branch a call.
 */
#ifndef ENGINE_SYS_H
#define ENGINE_SYS_H

#include "err.h"
#include "mem.h"
#include <stdbool.h>
#include <sys/types.h>

enum file_kind { FILE_ABSENT, FILE_REGULAR, FILE_FOLDER, FILE_LINK, FILE_OTHER };

/* What tells, without reading it, that a file may have changed. */
struct file_stat {
    enum file_kind kind;
    bool executable;         /* the owner may execute it */
    bool fresh;              /* changed less than 20 ms before this stat (2 s where times are whole seconds): a later change
                                could leave the same stat. Not part of what file_stat_same compares */
    uint64_t size, ino, dev;
    int64_t mtime_ns, ctime_ns;
};

/* Follows symbolic links unless `nofollow`. An absent file is no error: kind FILE_ABSENT. */
int sys_stat(const char *path, bool nofollow, struct file_stat *out, struct err *e);
bool file_stat_same(const struct file_stat *a, const struct file_stat *b);

/* Appends the file's bytes. */
int sys_read_file(const char *path, struct buf *out, struct err *e);
/* Writes a temporary file beside `path` and renames it there; `sync`: after fsync of file and folder. */
int sys_write_file(const char *path, const void *bytes, size_t n, bool sync, struct err *e);
int sys_write_all(int fd, const void *bytes, size_t n, struct err *e);
/* A name in the same folder that nobody else uses, for what is then renamed to `path`; free it. */
char *sys_temp_beside(const char *path);

int sys_mkdirs(const char *path, struct err *e);            /* and its parents; existing is fine */
int sys_mkdir_parents(const char *file_path, struct err *e); /* the folders above a file */
/* Moves a file or folder, replacing in one step what stands there, whatever it is. Onto another file system it goes as a copy beside
 * `to` that is then renamed. */
int sys_rename(const char *from, const char *to, struct err *e);
int sys_unlink(const char *path, struct err *e);            /* absent is fine */
int sys_remove_tree(const char *path, struct err *e);       /* absent is fine; never follows links */
int sys_remove_private(const char *folder, struct err *e);  /* the same for a folder that is empty as a rule: cheaper then */
int sys_sync_file(const char *path, struct err *e);
int sys_sync_folder(const char *path, struct err *e);
int sys_symlink(const char *target, const char *path, struct err *e);

/* Copies a regular file by reflink, copy_file_range or read and write, in this order; mode 0644 or 0755. The new file
 * must not exist. */
int sys_copy_file(const char *from, const char *to, bool executable, struct err *e);

/* The names in a folder, sorted by bytes, without "." and "..". *names is one allocation: free() it. */
int sys_list(const char *path, char ***names, uint32_t *count, struct err *e);

int64_t sys_now_ns(void);       /* monotonic */
int64_t sys_wall_ms(void);      /* since 1970 */

/* An advisory lock that dies with its holder. Returns the descriptor, or -1 with *holder (free it) set to the
 * text that the holder wrote into the file, or NULL on error. */
int sys_lock(const char *path, const char *note, bool wait, char **holder, struct err *e);
void sys_unlock(int fd);

#endif
