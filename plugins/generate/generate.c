/* generate.c: the step `generate`: what a decoder writes behind prompts, as a text file. How a token is drawn is lib/generate.c's. */
#include "lib/generate.h"
#include "lib/precision.h"
#include "lib/texts.h"

#include <mbuild/plugin.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROMPTS_MOST ((size_t)64 << 20) /* bytes of a file of prompts */

struct writer {
    const struct mb_host *host;
    struct mb_run *run;
    struct mbk *k;
    struct mbl_model *model;
    struct mbl_generation options;
    struct mbl_encoding encoding;
    int32_t *made;
    struct mbl_buf text;         /* what the file will hold */
    int64_t tokens;              /* made so far */
};

static int cancelled(void *ctx, int32_t token) {
    const struct writer *w = ctx;
    (void)token;
    return w->host->cancelled(w->run);
}

static int open_writer(struct writer *w, struct mbl_error *e) {
    const struct mb_host *host = w->host;
    const char *folder = host->input_path(w->run, "model", 0);
    if (mbl_model_load_on(host->device(w->run), host->cpus(w->run), folder, &w->k, &w->model, e) ||
        (mbl_precision_is_narrow(host, w->run) && mbl_model_narrow(w->model, false, e)))
        return -1;
    if (w->model->problem != MBL_NEXT_TOKEN)
        return mbl_error_set(e, "%s learned %s; only a decoder that learned the next token can write", folder,
                             mbl_problem_name(w->model->problem));
    if (!w->model->texts)
        return mbl_error_set(e, "%s has no tokenizer: tokenizer.json, or vocab.txt, or vocab.json with merges.txt expected", folder);
    w->options = (struct mbl_generation){.most = host->param_int(w->run, "tokens"),
                                         .temperature = host->param_float(w->run, "temperature"),
                                         .top_k = host->param_int(w->run, "top_k"),
                                         .top_p = host->param_float(w->run, "top_p"),
                                         .seed = (uint64_t)host->param_int(w->run, "seed")};
    if (w->options.most >= w->model->longest)
        return mbl_error_set(e, "tokens = %lld, but %s takes rows of at most %lld tokens, the prompt's among them",
                             (long long)w->options.most, folder, (long long)w->model->longest);
    if (host->param_bool(w->run, "stop")) w->options.stop_count = mbl_generation_stops(w->model, &w->options.stops);
    void *made;
    if (mbl_try_alloc(&made, (uint64_t)w->options.most, sizeof *w->made, "the tokens", e)) return -1;
    w->made = made;
    return 0;
}

static void close_writer(struct writer *w) {
    mbl_encoding_free(&w->encoding);
    mbl_buf_free(&w->text);
    free(w->made);
    mbl_model_free(w->model);
    if (w->k) mbk_close(w->k);
}

/* One prompt and what comes behind it; MB_CANCELLED if the build is being stopped. */
static int write_one(struct writer *w, const char *prompt, size_t length, size_t number, struct mbl_error *e) {
    const struct mbl_tokenizer *t = w->model->texts->tokenizer;
    const struct mbl_special_ids *special = mbl_tokenizer_special(t);
    const struct mbl_encode_options o = {.no_special = true};
    int32_t begin = special->bos >= 0 ? special->bos : special->eos;
    int64_t made, room = w->model->longest - w->options.most;
    if (mbl_tokenizer_encode(t, &(struct mbl_text){prompt, length}, NULL, 1, &o, &w->encoding, e))
        return mbl_error_wrap(e, "prompt %zu", number);
    const int32_t *ids = w->encoding.count ? w->encoding.ids : &begin;
    int64_t count = w->encoding.count ? (int64_t)w->encoding.count : begin >= 0;
    if (!count) return mbl_error_set(e, "prompt %zu is empty, and the tokenizer has no token that a text begins with", number);
    if (count > room)
        return mbl_error_set(e, "prompt %zu has %lld tokens; with tokens = %lld at most %lld fit into the model's %lld", number,
                             (long long)count, (long long)w->options.most, (long long)room, (long long)w->model->longest);
    if (mbl_generate(w->model, &w->options, ids, count, cancelled, w, w->made, &made, e)) return -1;
    if (w->host->cancelled(w->run)) return MB_CANCELLED;
    mbl_buf_add(&w->text, prompt, length);
    if (mbl_tokenizer_decode(t, w->made, (size_t)made, true, &w->text, e)) return -1;
    mbl_buf_addc(&w->text, '\n');
    w->tokens += made;
    return 0;
}

/* The file's lines, if there is one, else the rule's. */
static int write_all(struct writer *w, struct mbl_error *e) {
    const char *path = w->host->input_path(w->run, "prompts", 0);
    struct mbl_buf lines = {0};
    size_t count = w->host->param_count(w->run, "prompts");
    int status = 0;
    if (path && mbl_file_read(path, PROMPTS_MOST, &lines, e)) return -1;
    const char *at = mbl_buf_str(&lines), *end = at + lines.len;
    for (size_t i = 1; path && at < end && !status; i++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        size_t length = (size_t)((stop ? stop : end) - at);
        status = write_one(w, at, length, i, e);
        at += length + (stop != NULL);
        w->host->progress(w->run, (double)(at - lines.data), (double)lines.len, NULL);
    }
    for (size_t i = 0; !path && i < count && !status; i++) {
        char name[48];
        snprintf(name, sizeof name, "prompts[%zu]", i);
        const char *prompt = w->host->param_string(w->run, name);
        status = write_one(w, prompt, strlen(prompt), i + 1, e);
        w->host->progress(w->run, (double)i + 1, (double)count, NULL);
    }
    mbl_buf_free(&lines);
    return status;
}

static int run_generate(const struct mb_host *host, struct mb_run *run) {
    struct writer w = {.host = host, .run = run};
    struct mbl_error e;
    int status = open_writer(&w, &e) ? -1 : write_all(&w, &e);
    if (!status) {
        host->metric(run, "tokens", (double)w.tokens);
        status = mbl_file_write(host->output_path(run, "text", 0), mbl_buf_str(&w.text), w.text.len, &e);
    }
    close_writer(&w);
    return status < 0 ? host->fail(run, "%s", e.text) : status;
}

static const struct mb_role roles[] = {
    {.name = "model", .flags = MB_INPUT | MB_FOLDER, .kind = "model", .help = "a decoder"},
    {.name = "prompts", .flags = MB_INPUT | MB_OPTIONAL, .help = "a file with a prompt a line, instead of the parameter"},
    {.name = "text", .flags = MB_OUTPUT, .kind = "text", .help = "each prompt, and what the model writes behind it, and a newline"},
    {0}};

static const struct mb_param params[] = {
    {.name = "prompts", .type = MB_LIST, .element = MB_STRING, .deflt = "[\"\"]", .help = "what the texts begin with"},
    {.name = "tokens", .type = MB_INT, .deflt = "64", .least = 1, .most = 1048576, .unit = "tokens", .help = "how many to write at most"},
    {.name = "temperature", .type = MB_FLOAT, .deflt = "0", .least = 0, .most = 100,
     .help = "0: always the likeliest token; 1: as the model says; above: wilder"},
    {.name = "top_k", .type = MB_INT, .deflt = "0", .least = 0, .most = 1e6,
     .help = "draw from so many of the likeliest tokens; 0: from all"},
    {.name = "top_p", .type = MB_FLOAT, .deflt = "1", .least = 0, .most = 1,
     .help = "draw from the fewest tokens whose probabilities reach this; 1: from all"},
    {.name = "seed", .type = MB_INT, .deflt = "1", .least = 0, .most = 9e15, .help = "decides what is drawn"},
    MBL_PRECISION_PARAM,
    {.name = "stop", .type = MB_BOOL, .deflt = "true", .help = "end a text at the model's end of text"},
    {0}};

static const struct mb_step steps[] = {
    {.name = "generate", .help = "write text with a decoder",
     .flags = MB_DETERMINISTIC | MB_GPU_MAY | MB_DEVICE_MATTERS | MB_REENTRANT, .roles = roles,
     .params = params, .run = run_generate},
    {0}};

static const struct mb_plugin plugin = {MB_PLUGIN_HEAD, .name = "generate", .version = "1.0", .help = "text generation", .steps = steps};
MB_PLUGIN(plugin);
