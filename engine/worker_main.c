/* worker_main.c: where libexec/mbuild-worker begins: the spawner and, forked from it, templates and steps.
 *
 * A program of its own, because each step is a fork of it: what a process has mapped and written is what its fork costs. So it holds what a
 * step needs and no more: no Lua, SQLite or OpenSSL, which the linker sees to. What it takes of the engine is linked into both.
 */
#include "worker_private.h"

#include <stdio.h>
#include <sys/socket.h>

int main(void) {
    int type;
    socklen_t size = sizeof type;
    if (!getsockopt(WORKER_CONTROL, SOL_SOCKET, SO_TYPE, &type, &size)) spawner_main(WORKER_CONTROL);
    fprintf(stderr, "mbuild-worker: a part of mbuild, which starts it to run steps\n");
    return 2;
}
