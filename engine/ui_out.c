/* ui_out.c: descriptors that the display writes whole lines to; see ui_private.h.
 *
 * Whoever read may be gone: that ends the output, never the build.
 */
#include "ui_private.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

int ui_write(int fd, const char *bytes, size_t n) {
    if (fd == STDOUT_FILENO) fflush(stdout); /* what a subcommand printed comes before */
    while (n) {
        ssize_t wrote = write(fd, bytes, n);
        if (wrote >= 0) {
            bytes += wrote;
            n -= (size_t)wrote;
        } else if (errno == EAGAIN) {
            struct pollfd p = {.fd = fd, .events = POLLOUT};
            if (poll(&p, 1, -1) < 0 && errno != EINTR) return -1;
        } else if (errno != EINTR) {
            return -1;
        }
    }
    return 0;
}

void ui_out_flush(struct ui_out *o) {
    if (!o->dead && o->pending.len && ui_write(o->fd, o->pending.data, o->pending.len)) o->dead = true;
    buf_clear(&o->pending);
}
