/* count.c: a step of our own. In mbuild.lua:
 *
 *   local count = plugin "count-plugin" { "count.c" }
 *   step "counted" { plugin = count, inputs = { text = "words.txt" }, params = { word = "model" } }
 */
#include <mbuild/plugin.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct mb_role roles[] = {
    {.name = "text", .flags = MB_INPUT, .help = "the text to look at"},
    {.name = "count", .flags = MB_OUTPUT, .help = "how many lines hold the word"},
    {0}};

static const struct mb_param params[] = {
    {.name = "word", .type = MB_STRING, .flags = MB_REQUIRED, .help = "the word to count"},
    {0}};

static int run(const struct mb_host *host, struct mb_run *run) {
    const char *in = host->input_path(run, "text", 0), *out = host->output_path(run, "count", 0);
    const char *word = host->param_string(run, "word");
    FILE *f = fopen(in, "r");
    if (!f) return host->fail(run, "%s: %s", in, strerror(errno));
    char line[4096];
    long count = 0;
    while (fgets(line, sizeof line, f)) count += strstr(line, word) != NULL;
    int broken = ferror(f);
    fclose(f);
    if (broken) return host->fail(run, "%s: cannot read it", in);
    f = fopen(out, "w");
    if (!f) return host->fail(run, "%s: %s", out, strerror(errno));
    fprintf(f, "%ld\n", count);
    if (fclose(f)) return host->fail(run, "%s: %s", out, strerror(errno));
    host->metric(run, "lines", (double)count);
    return MB_OK;
}

static const struct mb_step steps[] = {
    {.name = "count", .help = "count the lines that hold a word", .flags = MB_DETERMINISTIC, .roles = roles, .params = params, .run = run},
    {0}};

static const struct mb_plugin plugin = {MB_PLUGIN_HEAD, .name = "count", .version = "1.0", .help = "an example", .steps = steps};
MB_PLUGIN(plugin);
