/* worker_log.c: logs of steps; see worker_log.h. A step may print for hours: what is over the limit is dropped, and its end still kept. */
#include "worker_log.h"
#include "sys.h"
#include "sys_call.h"
#include "worker_protocol.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void worker_log_init(struct worker_log *l, const char *path) {
    l->path = path ? mem_strdup(path) : NULL;
    l->fd = -1;
    l->made = l->broken = l->cut = false;
    l->bytes = 0;
    l->seen = 0;
}

static void keep_end(struct worker_log *l, const char *bytes, size_t n) {
    size_t size = sizeof l->end;
    if (n > size) {
        l->seen += n - size;
        bytes += n - size;
        n = size;
    }
    size_t at = l->seen % size, first = n < size - at ? n : size - at;
    memcpy(l->end + at, bytes, first);
    memcpy(l->end, bytes + first, n - first);
    l->seen += n;
}

static int write_log(struct worker_log *l, const char *bytes, size_t n, struct err *e) {
    if (l->fd < 0) {
        if (sys_mkdir_parents(l->path, e)) return err_wrap(e, "cannot write a log");
        l->fd = sys_call_open(AT_FDCWD, l->path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
        if (l->fd < 0) return err_errno(e, "cannot write the log %s", l->path);
        l->made = true;
    }
    if (sys_write_all(l->fd, bytes, n, e)) return err_wrap(e, "cannot write the log %s", l->path);
    return 0;
}

int worker_log_add(struct worker_log *l, const char *bytes, size_t n, struct err *e) {
    static const char note[] = "\n[mbuild: the log ends here, at 64 MiB; the step printed more]\n";
    keep_end(l, bytes, n);
    if (!l->path || l->broken || l->cut) return 0;
    size_t left = WORKER_LOG_MOST - l->bytes, now = n < left ? n : left;
    l->bytes += now;
    l->cut = n > left;
    int status = write_log(l, bytes, now, e);
    if (!status && l->cut) status = write_log(l, note, sizeof note - 1, e);
    l->broken = status;
    return status;
}

void worker_log_tail(const struct worker_log *l, struct buf *out) {
    char end[WORKER_TAIL_BYTES];
    size_t n = l->seen < sizeof end ? (size_t)l->seen : sizeof end, size = sizeof l->end, at = (size_t)((l->seen - n) % size);
    for (size_t i = 0; i < n; i++) end[i] = l->end[(at + i) % size];
    bool cut = l->seen > n;
    while (n && (end[n - 1] == '\n' || end[n - 1] == '\r')) n--;
    size_t start = n, lines = 0;
    while (start && (end[start - 1] != '\n' || ++lines < WORKER_TAIL_LINES)) start--;
    if (!start && cut) { /* the first line isn't whole: leave it out, unless it is all there is */
        const char *newline = memchr(end, '\n', n);
        if (newline) start = (size_t)(newline - end) + 1;
        while (start < n && ((unsigned char)end[start] & 0xc0) == 0x80) start++; /* the rest of a character */
    }
    struct buf valid = {0};
    text_add_valid(&valid, end + start, n - start);
    size_t from = 0;
    if (valid.len > WORKER_TAIL_BYTES) { /* replacements are longer than what they replace */
        from = valid.len - WORKER_TAIL_BYTES;
        while (from < valid.len && ((unsigned char)valid.data[from] & 0xc0) == 0x80) from++;
    }
    buf_add(out, buf_str(&valid) + from, valid.len - from);
    buf_free(&valid);
}

void worker_log_close(struct worker_log *l) {
    if (l->fd >= 0) close(l->fd);
    free(l->path);
    l->fd = -1;
    l->path = NULL;
}
