/* package.c: model, card, scores, provenance and bill of materials as one archive, the same bytes from the same inputs.
 *
 * The archive is read back and checked against its own manifest before the step ends well: what is signed later is known to
 * be whole. Lineage is no part of a key, so of two histories that lead to the same content the bundle tells the one that it was made by.
 */
#include "package.h"

#include <mbuild/plugin.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const struct mb_role roles[] = {
    {.name = "model", .flags = MB_INPUT | MB_NAMED, .kind = "model", .help = "the model, a folder or a file: model/ in the bundle"},
    {.name = "card", .flags = MB_INPUT | MB_OPTIONAL, .help = "a text with {{figures}}, which are filled in: MODEL_CARD.md in the bundle"},
    {.name = "scores", .flags = MB_INPUT | MB_MANY | MB_OPTIONAL | MB_NAMED, .kind = "metrics",
     .help = "figures in JSON, such as `evaluate` makes"},
    {.name = "files", .flags = MB_INPUT | MB_MANY | MB_OPTIONAL | MB_NAMED, .help = "what else goes along, under its path in the repo"},
    {.name = "bundle", .flags = MB_OUTPUT, .kind = "archive", .help = "the archive"},
    {0}};

static const char *const formats[] = {MBL_BUNDLE_FORMATS, NULL};

static const struct mb_param params[] = {
    {.name = "project", .type = MB_STRING, .deflt = "\"model\"", .help = "what the bundle's folder is called, with the version behind"},
    {.name = "version", .type = MB_STRING, .deflt = "\"0\"", .help = "the project's version"},
    {.name = "format", .type = MB_ENUM, .choices = formats, .deflt = "\"tar.zst\"", .help = "the archive's format"},
    {.name = "level", .type = MB_INT, .deflt = "6", .least = 1, .most = 19, .help = "how hard to compress; gzip and zip go to 9"},
    {0}};

struct packing {
    const struct mb_host *host;
    struct mb_run *run;
    struct package package;
    uint64_t total;
};

static void add_member(struct package *p, struct mbl_member m) {
    p->members = mbl_grow(p->members, &p->cap, p->count + 1, sizeof *p->members);
    p->members[p->count++] = m;
}

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* A file as PREFIX, or all files of a folder below it. */
static int add_path(struct package *p, const char *path, const char *name, struct mbl_error *e) {
    struct mbl_tree_file *files;
    size_t count;
    struct stat st;
    if (stat(path, &st)) return mbl_error_errno(e, "%s", path);
    if (!S_ISDIR(st.st_mode)) {
        add_member(p, (struct mbl_member){.name = name, .path = path, .executable = st.st_mode & 0100});
        return 0;
    }
    if (mbl_tree_list(path, &p->arena, &files, &count, e)) return -1;
    for (size_t i = 0; i < count; i++)
        add_member(p, (struct mbl_member){
                          .name = mbl_path_join(&p->arena, name, files[i].name), .path = files[i].path, .executable = files[i].executable});
    return count ? 0 : mbl_error_set(e, "%s is empty", path);
}

static void add_text(struct package *p, const char *name, const struct mbl_buf *text) {
    add_member(p, (struct mbl_member){.name = name, .data = mbl_arena_strndup(&p->arena, mbl_buf_str(text), text->len), .size = text->len});
}

static void add_json(struct package *p, const char *name, const struct mbl_json *v) {
    struct mbl_buf text = {0};
    mbl_json_write(v, MBL_JSON_INDENTED, &text);
    add_text(p, name, &text);
    mbl_buf_free(&text);
}

/* -- the parts */

static int add_model(struct packing *k, struct mbl_error *e) {
    struct package *p = &k->package;
    const char *path = k->host->input_path(k->run, "model", 0), *name = base_name(k->host->input_name(k->run, "model", 0));
    struct stat st;
    if (stat(path, &st)) return mbl_error_errno(e, "%s", path);
    if (!S_ISDIR(st.st_mode)) return add_path(p, path, mbl_path_join(&p->arena, "model", name), e);
    const char *config = mbl_path_join(&p->arena, path, "config.json");
    if (!stat(config, &st) && mbl_json_read(config, &p->arena, &p->config, e)) return -1;
    return add_path(p, path, "model", e);
}

static int add_scores(struct packing *k, struct mbl_json *figures, struct mbl_error *e) {
    struct package *p = &k->package;
    size_t count = k->host->input_count(k->run, "scores");
    for (size_t i = 0; i < count; i++) {
        const char *path = k->host->input_path(k->run, "scores", i), *base = base_name(k->host->input_name(k->run, "scores", i));
        struct mbl_json *scores;
        if (mbl_json_read(path, &p->arena, &scores, e)) return -1;
        if (scores->type != MBL_JSON_TABLE)
            return mbl_error_set(e, "%s holds %s; a table of figures expected", path, mbl_json_type_name(scores->type));
        size_t stem = strlen(base);
        if (stem > 5 && !strcmp(base + stem - 5, ".json")) stem -= 5;
        const char *name = mbl_arena_strndup(&p->arena, base, stem);
        if (!i) p->scores = scores;
        for (size_t n = 0; !i && n < scores->count; n++)
            if (!mbl_json_get(figures, scores->keys[n])) mbl_json_set(&p->arena, figures, scores->keys[n], scores->items[n]);
        if (!mbl_json_get(figures, name)) mbl_json_set(&p->arena, figures, name, scores);
        if (add_path(p, path, count == 1 ? "scores.json" : mbl_arena_printf(&p->arena, "scores/%s.json", name), e)) return -1;
    }
    return 0;
}

static int add_card(struct packing *k, const struct mbl_json *figures, struct mbl_error *e) {
    const char *path = k->host->input_path(k->run, "card", 0);
    struct mbl_buf text = {0}, card = {0};
    if (!path) return 0;
    int status = mbl_file_read(path, 16 << 20, &text, e);
    if (!status) status = card_render(mbl_buf_str(&text), path, figures, &card, e);
    if (!status) add_text(&k->package, "MODEL_CARD.md", &card);
    mbl_buf_free(&text);
    mbl_buf_free(&card);
    return status;
}

static int add_files(struct packing *k, struct mbl_error *e) {
    for (size_t i = 0; i < k->host->input_count(k->run, "files"); i++) {
        const char *name = k->host->input_name(k->run, "files", i);
        if (*name == '/') name = base_name(name);
        if (add_path(&k->package, k->host->input_path(k->run, "files", i), name, e)) return -1;
    }
    return 0;
}

static int add_history(struct packing *k, struct mbl_error *e) {
    struct package *p = &k->package;
    for (const struct mb_role *r = roles; r->name; r++) {
        for (size_t i = 0; r->flags & MB_INPUT && i < k->host->input_count(k->run, r->name); i++) {
            const char *lineage = k->host->input_lineage(k->run, r->name, i);
            if (lineage && history_add(&p->history, lineage, &p->arena, e)) return -1;
        }
    }
    history_sort(&p->history);
    return 0;
}

static int collect(struct packing *k, struct mbl_error *e) {
    struct package *p = &k->package;
    struct mbl_json *figures = mbl_json_table(&p->arena);
    p->name = k->host->param_string(k->run, "project");
    p->version = k->host->param_string(k->run, "version");
    mbl_json_set(&p->arena, figures, "project", mbl_json_string(&p->arena, p->name));
    mbl_json_set(&p->arena, figures, "version", mbl_json_string(&p->arena, p->version));
    if (add_model(k, e)) return -1;
    if (p->config) mbl_json_set(&p->arena, figures, "model", p->config);
    if (add_scores(k, figures, e) || add_card(k, figures, e) || add_files(k, e) || add_history(k, e) ||
        mbl_bundle_prepare(p->members, p->count, e))
        return -1;
    struct mbl_json *provenance = provenance_make(p), *bom = bom_make(p);
    add_json(p, "provenance.json", provenance);
    add_json(p, "bom.cdx.json", bom);
    return mbl_bundle_prepare(p->members, p->count, e);
}

/* -- the archive */

static void show_progress(void *ctx, uint64_t bytes) {
    struct packing *k = ctx;
    k->host->progress(k->run, (double)bytes, (double)k->total, "packing");
}

static int check_written(const char *path, size_t files, struct mbl_error *e) {
    struct mbl_bundle b;
    if (mbl_bundle_check(path, &b, e)) return -1;
    int status = 0;
    if (b.problem_count) status = mbl_error_set(e, "the archive that was written can't be read back: %s", b.problems[0]);
    else if (b.files != files) status = mbl_error_set(e, "the archive that was written holds %zu files, not %zu", b.files, files);
    mbl_bundle_free(&b);
    return status;
}

static int write_bundle(struct packing *k, struct mbl_error *e) {
    struct package *p = &k->package;
    const char *path = k->host->output_path(k->run, "bundle", 0), *format = k->host->param_string(k->run, "format");
    int level = (int)k->host->param_int(k->run, "level");
    for (size_t i = 0; i < p->count; i++) k->total += p->members[i].size;
    const char *top = mbl_arena_printf(&p->arena, "%s-%s", p->name, p->version);
    const struct mbl_json *manifest = mbl_bundle_manifest(p->name, p->version, p->members, p->count, &p->arena);
    if (strcmp(format, "tar.zst") && level > 9) level = 9;
    if (mbl_bundle_write(path, format, level, top, manifest, p->members, p->count, show_progress, k, e)) return -1;
    if (check_written(path, p->count, e)) return -1;
    struct stat st;
    if (stat(path, &st)) return mbl_error_errno(e, "%s", path);
    k->host->metric(k->run, "files", (double)p->count);
    k->host->metric(k->run, "bytes", (double)st.st_size);
    return 0;
}

static int run(const struct mb_host *host, struct mb_run *run) {
    struct packing k = {.host = host, .run = run};
    struct mbl_error e;
    int status = collect(&k, &e) || write_bundle(&k, &e);
    history_free(&k.package.history);
    free(k.package.members);
    mbl_arena_free(&k.package.arena);
    return status ? host->fail(run, "%s", e.text) : MB_OK;
}

static int check(const struct mb_host *host, struct mb_run *run) {
    static const char *const both[] = {"project", "version"};
    for (int i = 0; i < 2; i++) {
        const char *text = host->param_string(run, both[i]);
        if (!*text || strchr(text, '/') || !strcmp(text, ".."))
            return host->fail(run, "%s: \"%s\" can't be a part of a folder's name", both[i], text);
    }
    return MB_OK;
}

static const struct mb_step steps[] = {
    {.name = "package", .help = "put a model and what belongs to it into a reproducible archive", .flags = MB_DETERMINISTIC,
     .roles = roles, .params = params, .run = run, .check = check},
    {0}};

static const struct mb_plugin plugin = {MB_PLUGIN_HEAD, .name = "package", .version = "1.0", .help = "reproducible bundles of models",
                                        .steps = steps};
MB_PLUGIN(plugin);
