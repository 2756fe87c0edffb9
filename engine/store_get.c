/* store_get.c: from the store back into the workspace; see store.h.
 *
 * An artifact is made under a temporary name in the store, checked while it is copied, and moved to its place in one
 * rename: what a killed process leaves lies in the store, not in the workspace.
 */
#include "store_private.h"
#include "sys_call.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Copies `in` to `out` and digests what arrived. */
static int copy_checked(struct store *s, int in, int out, const struct digest *d, bool *corrupt, struct err *e) {
    char chunk[STORE_CHUNK];
    ssize_t n;
    bool cloned = !sys_call_clone(out, in);
    struct digest_context *c = digest_begin();
    int status = 0;
    while (!status && (n = sys_call_read(cloned ? out : in, chunk, sizeof chunk)) != 0) {
        if (n < 0) {
            status = err_errno(e, "read");
            break;
        }
        digest_add(c, chunk, (size_t)n);
        if (!cloned) status = sys_write_all(out, chunk, (size_t)n, e);
    }
    struct digest found = digest_end(c);
    return !status && !digest_same(&found, d) ? store_drop_damaged(s, d, corrupt, e) : status;
}

/* Makes the file `path`, which must not exist. */
static int get_file(struct store *s, const struct artifact *a, const char *path, bool *corrupt, struct err *e) {
    char name[OBJECT_NAME];
    object_name(&a->digest, name);
    int in = sys_call_open(s->fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
    if (in < 0 && errno == ENOENT) return store_drop_absent(&a->digest, corrupt, e);
    if (in < 0) return err_errno(e, "cannot open the object %s/%s", s->folder, name);
    int out = sys_call_open(AT_FDCWD, path, O_RDWR | O_CREAT | O_EXCL, a->type == ARTIFACT_EXECUTABLE ? 0755 : 0644);
    int status = out < 0 ? err_errno(e, "open") : copy_checked(s, in, out, &a->digest, corrupt, e);
    if (out >= 0 && close(out) && !status) status = err_errno(e, "close");
    close(in);
    return status;
}

static int get_link(struct store *s, const struct artifact *a, const char *path, bool *corrupt, struct err *e) {
    struct buf target = {0};
    int status = store_read_object(s, &a->digest, &target, corrupt, e);
    if (!status && (!target.len || strlen(target.data) != target.len || target.len >= PATH_MAX))
        status = err_set(e, "%s: what the store has for this link is no link's text", path);
    if (!status) status = sys_symlink(target.data, path, e);
    buf_free(&target);
    return status;
}

static int get_entry(struct store *s, const struct manifest_entry *entry, const char *path, bool *corrupt, struct err *e) {
    if (entry->artifact.type == ARTIFACT_FOLDER) return sys_mkdirs(path, e);
    if (sys_mkdir_parents(path, e)) return -1;
    return entry->artifact.type == ARTIFACT_LINK ? get_link(s, &entry->artifact, path, corrupt, e)
                                                 : get_file(s, &entry->artifact, path, corrupt, e);
}

/* Makes the folder `path`, which must not exist. */
static int get_folder(struct store *s, const struct artifact *a, const char *path, bool *corrupt, struct err *e) {
    struct buf text = {0}, entry_path = {0};
    struct manifest m = {0};
    int status = store_read_object(s, &a->digest, &text, corrupt, e);
    if (!status) status = manifest_parse(buf_str(&text), text.len, &m, e);
    if (!status) status = sys_mkdirs(path, e);
    for (uint32_t i = 0; !status && i < m.count; i++) {
        buf_clear(&entry_path);
        buf_addf(&entry_path, "%s/%s", path, m.entries[i].path);
        status = get_entry(s, &m.entries[i], entry_path.data, corrupt, e);
        if (status) err_wrap(e, "%s", m.entries[i].path);
    }
    manifest_free(&m);
    buf_free(&text);
    buf_free(&entry_path);
    return status;
}

int store_get(struct store *s, const struct artifact *a, const char *path, bool *corrupt, struct err *e) {
    char name[64];
    *corrupt = false;
    if (store_temp(s, name, e)) return err_wrap(e, "cannot restore %s", path);
    char *temp = mem_printf("%s/%s", s->folder, name);
    int status;
    switch (a->type) {
    case ARTIFACT_FILE: case ARTIFACT_EXECUTABLE: status = get_file(s, a, temp, corrupt, e); break;
    case ARTIFACT_LINK: status = get_link(s, a, temp, corrupt, e); break;
    case ARTIFACT_FOLDER: status = get_folder(s, a, temp, corrupt, e); break;
    default: status = err_set(e, "nothing is recorded of it"); break;
    }
    if (!status) status = sys_rename(temp, path, e);
    struct err ignored;
    if (status) sys_remove_tree(temp, &ignored);
    free(temp);
    return status ? err_wrap(e, "cannot restore %s", path) : 0;
}
