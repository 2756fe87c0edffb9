/* command_init.c: `init [TEMPLATE]`: a model repo to begin with, copied from share/mbuild/templates/NAME. */
#include "command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Copies a folder's files to here. With `dry`, only checks that none is in the way. */
static int copy_template(const char *from, const char *to, bool dry, struct err *e) {
    char **names;
    uint32_t count;
    int status = 0;
    if (sys_list(from, &names, &count, e)) return -1;
    for (uint32_t i = 0; i < count && !status; i++) {
        char *source = mem_printf("%s/%s", from, names[i]), *target = mem_printf("%s%s%s", to, *to ? "/" : "", names[i]);
        struct file_stat st, there;
        status = sys_stat(source, false, &st, e) || sys_stat(target, true, &there, e) ? -1 : 0;
        if (status) {
        } else if (st.kind == FILE_FOLDER) {
            if (!dry) status = sys_mkdirs(target, e);
            if (!status) status = copy_template(source, target, dry, e);
        } else if (dry && there.kind != FILE_ABSENT) {
            status = err_set(e, "init: %s already exists; nothing was changed", target);
        } else if (!dry) {
            status = sys_copy_file(source, target, st.executable, e);
            if (!status) printf("  %s\n", target);
        }
        free(source);
        free(target);
    }
    free(names);
    return status;
}

static int unknown_template(const char *folder, const char *name, struct err *e) {
    char **names;
    uint32_t count;
    if (sys_list(folder, &names, &count, e)) return -1;
    struct buf all = {0};
    for (uint32_t i = 0; i < count; i++) buf_addf(&all, "%s%s", i ? ", " : "", names[i]);
    const char *near = mem_nearest(name, (const char *const *)names, count);
    if (near) err_set(e, "init: there is no template \"%s\"; did you mean \"%s\"?", name, near);
    else err_set(e, "init: there is no template \"%s\"; there are %s", name, buf_str(&all));
    buf_free(&all);
    free(names);
    return -1;
}

int command_init(const struct options *o, int argc, char **argv, struct err *e) {
    const char *name = argc > 1 ? argv[1] : "classification";
    if (argc > 2) return err_set(e, "usage: mbuild init [TEMPLATE]");
    if (o->directory && chdir(o->directory)) return err_errno(e, "-C %s", o->directory);
    char *home = session_home(e);
    if (!home) return -1;
    char *folder = mem_printf("%s/share/mbuild/templates", home), *from = mem_printf("%s/%s", folder, name);
    struct file_stat st;
    int status = sys_stat(from, false, &st, e);
    if (!status && (st.kind != FILE_FOLDER || strchr(name, '/'))) status = unknown_template(folder, name, e);
    if (!status) status = copy_template(from, "", true, e);
    if (!status) status = copy_template(from, "", false, e);
    if (!status) printf("a model repo from the template \"%s\": `mbuild targets` shows what it makes\n", name);
    free(home);
    free(folder);
    free(from);
    return status;
}
