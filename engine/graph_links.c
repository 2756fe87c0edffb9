/* graph_links.c: paths that leave the repo by a symbolic link; see graph.h. What leaves it by ".." graph_normalize finds in the text.
 *
 * Folders that were looked at and lie inside are remembered, so that a hundred thousand files of one folder cost a look each.
 */
#include "graph.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* Whether what a link leads to lies where rules may name it. What leads nowhere leaves nothing: that it is absent is told elsewhere. */
static bool leads_inside(const struct graph *g, const char *link, char real[PATH_MAX]) {
    if (!realpath(link, real) || graph_path_within(real, g->root)) return true;
    for (uint32_t i = 0; i < g->outside_count; i++) {
        char allowed[PATH_MAX];
        if (graph_path_within(real, realpath(g->outside[i], allowed) ? allowed : g->outside[i])) return true;
    }
    return false;
}

static int check_link(const struct graph *g, const char *path, const char *link, struct err *e) {
    char real[PATH_MAX];
    struct file_stat st;
    if (sys_stat(link, true, &st, e)) return -1;
    if (st.kind != FILE_LINK || leads_inside(g, link, real)) return 0;
    return err_set(e, "the path %s leaves the repo: %s is a link to %s; if that is meant, allow it by project { outside = { \"FOLDER\" } }", path, link, real);
}

int graph_check_links(struct graph *g, const char *path, bool itself, struct err *e) {
    if (*path == '/') return 0; /* outside, and allowed to be */
    char *part = mem_strdup(path);
    int status = 0;
    for (char *slash = part; !status && (slash = strchr(slash, '/')); *slash++ = '/') {
        *slash = 0;
        if (intern_find(&g->inside, part) != NO_ID) continue;
        status = check_link(g, path, part, e);
        if (!status) intern_add(&g->inside, part);
    }
    free(part);
    return status || !itself ? status : check_link(g, path, path, e);
}
