/* generate.c: text from a decoder; see generate.h. */
#include "generate.h"
#include "transformer.h"

#include <stdlib.h>

/* -- the cache */

int mbl_past_open(struct mbl_model *m, int64_t tokens, struct mbl_past **out, struct mbl_error *e) {
    *out = NULL;
    if (!m->cache_width) return mbl_error_set(e, "a %s cannot generate; a decoder (gpt2, llama) can", m->architecture->kind);
    if (tokens > m->longest) tokens = m->longest;
    double bytes = (double)m->cache_layers * 2 * (double)tokens * (double)m->cache_width * (m->compute == MBK_F32 ? 4 : 2);
    if (tokens < 1 || bytes > 1e15) return mbl_error_set(e, "a cache of %lld tokens would take %.3g bytes", (long long)tokens, bytes);
    struct mbl_past *c = mbl_alloc(sizeof *c);
    *c = (struct mbl_past){.k = m->k, .layers = m->cache_layers, .room = tokens, .width = m->cache_width,
                            .type = m->compute};
    c->block = mbk_alloc(m->k, (size_t)bytes);
    if (!c->block) {
        free(c);
        return mbl_error_set(e, "no memory for a cache of %lld tokens (%.0f bytes)", (long long)tokens, bytes);
    }
    *out = c;
    return 0;
}

void mbl_past_clear(struct mbl_past *c) {
    c->used = 0;
}

void mbl_past_close(struct mbl_past *c) {
    if (!c) return;
    mbk_free(c->k, c->block);
    free(c);
}

/* -- generating */

struct generator {
    struct mbl_model *m;
    const struct mbl_generation *options;
    struct mbl_past *cache;
    struct mbk_tensor ids, next; /* I32 on the device: the prompt, later one token; what was drawn */
};

static int check(const struct mbl_model *m, const struct mbl_generation *o, const int32_t *prompt, int64_t n, struct mbl_error *e) {
    if (n < 1) return mbl_error_set(e, "a prompt of at least one token expected");
    if (n > m->longest)
        return mbl_error_set(e, "the prompt has %lld tokens, but the model has positions for %lld", (long long)n, (long long)m->longest);
    for (int64_t i = 0; i < n; i++)
        if (prompt[i] < 0 || prompt[i] >= m->vocabulary)
            return mbl_error_set(e, "token %lld of the prompt is %d; an id below %lld expected", (long long)i + 1, prompt[i],
                                 (long long)m->vocabulary);
    if (!(o->temperature >= 0 && o->temperature <= 1e6) || o->top_k < 0 || o->top_k > INT32_MAX || !(o->top_p > 0 && o->top_p <= 1))
        return mbl_error_set(e, "temperature %g must be 0 or more, top_k %lld too, and top_p %g above 0 and at most 1", o->temperature,
                             (long long)o->top_k, o->top_p);
    return 0;
}

/* The token behind `n` that were put into g->ids. */
static int next_token(struct generator *g, int64_t n, int32_t *token, struct mbl_error *e) {
    const struct mbl_generation *o = g->options;
    struct mbl_batch b = {.ids = mbk_tensor2(g->ids.data, MBK_I32, 1, n), .cache = g->cache};
    struct mbk_tensor logits;
    if (g->m->architecture->forward(g->m, &b, &logits, e)) return -1;
    if (mbk_sample(g->m->k, &logits, (float)o->temperature, (int)o->top_k, (float)o->top_p, o->seed, (uint64_t)g->cache->used, &g->next) ||
        mbk_read(g->m->k, token, g->next.data, sizeof *token))
        return mbl_kernel_failed(g->m->k, "drawing a token", e);
    return 0;
}

static bool stops(const struct mbl_generation *o, int32_t token) {
    for (size_t i = 0; i < o->stop_count; i++)
        if (o->stops[i] == token) return true;
    return false;
}

static int go_on(struct generator *g, const int32_t *prompt, int64_t n, int (*each)(void *, int32_t), void *ctx, int32_t *out,
                 int64_t *made, struct mbl_error *e) {
    struct mbk *k = g->m->k;
    if (mbk_write(k, g->ids.data, prompt, (size_t)n * sizeof *prompt)) return mbl_kernel_failed(k, "the prompt", e);
    for (*made = 0; *made < g->options->most && g->cache->used + n <= g->cache->room; n = 1) {
        int32_t token;
        if (next_token(g, n, &token, e)) return -1;
        if (stops(g->options, token)) return 0;
        out[(*made)++] = token;
        if (each && each(ctx, token)) return 0;
        if (mbk_write(k, g->ids.data, &token, sizeof token)) return mbl_kernel_failed(k, "a token", e);
    }
    return 0;
}

int mbl_generate(struct mbl_model *m, const struct mbl_generation *options, const int32_t *prompt, int64_t prompt_tokens,
                 int (*each)(void *ctx, int32_t token), void *ctx, int32_t *out, int64_t *made, struct mbl_error *e) {
    struct generator g = {.m = m, .options = options};
    *made = 0;
    if (check(m, options, prompt, prompt_tokens, e)) return -1;
    int64_t room = options->most < m->longest - prompt_tokens ? prompt_tokens + options->most : m->longest;
    if (mbl_past_open(m, room, &g.cache, e)) return -1;
    g.ids = mbk_tensor1(mbk_alloc(m->k, (size_t)prompt_tokens * sizeof *prompt), MBK_I32, prompt_tokens);
    g.next = mbk_tensor1(mbk_alloc(m->k, sizeof(int32_t)), MBK_I32, 1);
    int status = g.ids.data && g.next.data ? go_on(&g, prompt, prompt_tokens, each, ctx, out, made, e)
                                           : mbl_error_set(e, "no memory for a prompt of %lld tokens", (long long)prompt_tokens);
    if (g.ids.data) mbk_free(m->k, g.ids.data);
    if (g.next.data) mbk_free(m->k, g.next.data);
    mbl_past_close(g.cache);
    return status;
}

size_t mbl_generation_stops(struct mbl_model *m, const int32_t **out) {
    const struct mbl_json *v = mbl_json_get(m->config, "eos_token_id");
    size_t n = !v ? 0 : v->type == MBL_JSON_LIST ? v->count : 1, kept = 0;
    int32_t *ids = mbl_arena_alloc(&m->arena, (n + 1) * sizeof *ids);
    for (size_t i = 0; i < n; i++) {
        double id = mbl_json_number(v->type == MBL_JSON_LIST ? v->items[i] : v);
        if (id >= 0 && id < (double)m->vocabulary) ids[kept++] = (int32_t)id;
    }
    *out = ids;
    return kept;
}
