/* glob.c: file name patterns over folders; see rules.h. */
#include "rules.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#define GLOB_DEPTH 64

struct glob {
    const char *root;
    void (*each)(void *ctx, const char *path);
    void (*looked)(void *ctx, const char *path); /* or NULL */
    void *ctx;
    struct err *e;
};

bool glob_is_pattern(const char *text) {
    return strpbrk(text, "*?[") != NULL;
}

static int entry_kind(const struct glob *g, const char *path, enum file_kind *kind) {
    struct buf full = {0};
    struct file_stat st;
    buf_addf(&full, "%s/%s", g->root, path);
    int status = sys_stat(buf_str(&full), false, &st, g->e);
    buf_free(&full);
    *kind = status ? FILE_ABSENT : st.kind;
    return status;
}

static int expand(const struct glob *g, const char *folder, const char *pattern, int depth);

/* One entry of a folder against the pattern's first part. */
static int match_entry(const struct glob *g, const char *folder, const char *name, const char *part, const char *rest, int depth) {
    bool deep = !strcmp(part, "**");
    if (deep ? name[0] == '.' : fnmatch(part, name, FNM_PERIOD)) return 0;
    if (!*folder && !strcmp(name, ".mbuild")) return 0;
    char *path = mem_printf("%s%s%s", folder, *folder ? "/" : "", name);
    enum file_kind kind;
    int status = entry_kind(g, path, &kind);
    if (status || kind == FILE_ABSENT) goto out; /* a dangling link is no file */
    if (deep) {
        if (kind == FILE_FOLDER) {
            char *again = mem_printf("**/%s", rest);
            status = expand(g, path, again, depth + 1);
            free(again);
        }
    } else if (*rest) {
        if (kind == FILE_FOLDER) status = expand(g, path, rest, depth + 1);
    } else if (kind == FILE_REGULAR) {
        g->each(g->ctx, path);
    }
out:
    free(path);
    return status;
}

/* `pattern` within `folder` ("" is the root). */
static int expand(const struct glob *g, const char *folder, const char *pattern, int depth) {
    if (depth > GLOB_DEPTH) return err_set(g->e, "more than %d folders deep at %s (a loop of links?)", GLOB_DEPTH, folder);
    size_t n = strcspn(pattern, "/");
    const char *rest = pattern[n] ? pattern + n + 1 : "";
    char *part = mem_printf("%.*s", (int)n, pattern);
    int status = 0;
    if (!glob_is_pattern(part)) { /* a plain name: no need to list */
        char *path = mem_printf("%s%s%s", folder, *folder ? "/" : "", part);
        enum file_kind kind;
        if (g->looked) g->looked(g->ctx, path);
        status = entry_kind(g, path, &kind);
        if (!status && *rest && kind == FILE_FOLDER) status = expand(g, path, rest, depth + 1);
        if (!status && !*rest && kind == FILE_REGULAR) g->each(g->ctx, path);
        free(path);
        free(part);
        return status;
    }
    if (!strcmp(part, "**")) status = *rest ? expand(g, folder, rest, depth + 1) : expand(g, folder, "*", depth + 1); /* zero folders */
    char **names = NULL;
    uint32_t count = 0;
    struct buf full = {0};
    buf_addf(&full, "%s/%s", g->root, folder);
    if (g->looked) g->looked(g->ctx, *folder ? folder : ".");
    if (!status) status = sys_list(buf_str(&full), &names, &count, g->e);
    buf_free(&full);
    const char *deep_rest = !strcmp(part, "**") && !*rest ? "*" : rest;
    for (uint32_t i = 0; i < count && !status; i++) status = match_entry(g, folder, names[i], part, deep_rest, depth);
    free(names);
    free(part);
    return status;
}

int glob_expand_looking(const char *root, const char *pattern, void (*each)(void *ctx, const char *path),
                        void (*looked)(void *ctx, const char *path), void *ctx, struct err *e) {
    struct glob g = {.root = root, .each = each, .looked = looked, .ctx = ctx, .e = e};
    return expand(&g, "", pattern, 0);
}

int glob_expand(const char *root, const char *pattern, void (*each)(void *ctx, const char *path), void *ctx, struct err *e) {
    return glob_expand_looking(root, pattern, each, NULL, ctx, e);
}
