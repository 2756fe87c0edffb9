/* pytorch.c: products and whole training steps beside PyTorch, where python3 (or $MB_PYTHON) has it. A line a measure: name, ours,
 * PyTorch's, ratio, parted by tabs. Without PyTorch ours stands alone.
 *
 * Both do the same in turns, ours then PyTorch's, so that a busy machine hurts both alike, and the medians are compared. A step is forward,
 * loss, backward, clipping and AdamW, of random weights, dropout on, in float32 and in bfloat16, which is autocast there. PyTorch runs in a
 * process of its own (pytorch.py), and a step with either of its attentions: the faster one counts, and of memory the smaller. Memory is the
 * most that the process held beyond what it held before the model was made.
 *
 *     build/tests/bench/pytorch [PART OF A NAME …]
 *
 * MB_BENCH_THREADS: how many (2). MB_BENCH_TURNS: of a step (5); a product has ten times as many. MB_SOURCE: where pytorch.py is.
 */
#include "lib/model.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int turns = 5, part_count;
static char **parts;
static struct mbk *k;

static void fail(const char *what)
{
    fprintf(stderr, "pytorch: %s\n", what);
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int wanted(const char *name)
{
    for (int i = 0; i < part_count; i++)
        if (strstr(name, parts[i]))
            return 1;
    return part_count == 0;
}

static void row(const char *name, double ours, double peer)
{
    if (isnan(peer))
        printf("%s\t%.1f\t-\t-\n", name, ours);
    else
        printf("%s\t%.1f\t%.1f\t%.3f\n", name, ours, peer, ours / peer);
    fflush(stdout);
}

/* -- Memory of this process, in bytes. */

static double status(const char *key)
{
    char line[200];
    double kib = NAN;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, key, strlen(key)) == 0)
            kib = atof(line + strlen(key) + 1);
    if (f)
        fclose(f);
    return kib * 1024;
}

/* What is held now counts as the most from here on. */
static double begin_memory(void)
{
    FILE *f = fopen("/proc/self/clear_refs", "w");
    if (f) {
        fputs("5", f);
        fclose(f);
    }
    return status("VmRSS");
}

/* -- PyTorch. */

struct peer {
    FILE *to, *from;
    pid_t pid;
};

/* One line, one answer; NaN once it fails. */
static double ask(struct peer *p, const char *line)
{
    char answer[100];
    if (!p->to || fprintf(p->to, "%s\n", line) < 0 || fflush(p->to) || !fgets(answer, sizeof answer, p->from))
        return NAN;
    return atof(answer);
}

static void close_peer(struct peer *p)
{
    if (!p->to)
        return;
    fclose(p->to);
    fclose(p->from);
    waitpid(p->pid, NULL, 0);
}

/* `arguments` as pytorch.py has them, parted by spaces. */
static struct peer open_peer(const char *arguments)
{
    static int known, there;
    const char *source = getenv("MB_SOURCE"), *python = getenv("MB_PYTHON");
    char command[1000];
    int to[2], from[2];
    struct peer p = { .pid = -1 };
    if (!known) {
        snprintf(command, sizeof command, "'%s' -c 'import torch, transformers' 2>/dev/null", python ? python : "python3");
        there = system(command) == 0;
        if (!there)
            fprintf(stderr, "%s has no PyTorch or no transformers: only ours is measured\n", python ? python : "python3");
        known = 1;
    }
    if (!there)
        return p;
    snprintf(command, sizeof command, "exec '%s' '%s/tests/bench/pytorch.py' %s", python ? python : "python3", source ? source : ".",
             arguments);
    if (pipe(to) || pipe(from) || (p.pid = fork()) < 0)
        fail("cannot start a process");
    if (p.pid == 0) {
        dup2(to[0], 0);
        dup2(from[1], 1);
        close(to[1]);
        close(from[0]);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    close(to[0]);
    close(from[1]);
    p.to = fdopen(to[1], "w");
    p.from = fdopen(from[0], "r");
    if (!p.to || !p.from)
        fail("cannot talk to a process");
    return p;
}

/* -- Turns. */

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *seconds, int count)
{
    for (int i = 0; i < count; i++)
        if (isnan(seconds[i]))
            return NAN;
    qsort(seconds, (size_t)count, sizeof *seconds, ascending);
    return count % 2 ? seconds[count / 2] : (seconds[count / 2 - 1] + seconds[count / 2]) / 2;
}

/* The medians of so many turns of each, after one that does not count. */
static void take_turns(void (*ours)(void *context), void *context, struct peer *p, int count, double *our_median, double *peer_median)
{
    enum { MOST = 1000 };
    static double mine[MOST], its[MOST];
    count = count < 1 ? 1 : count > MOST ? MOST : count;
    ours(context);
    ask(p, "");
    for (int i = 0; i < count; i++) {
        double start = now();
        ours(context);
        mine[i] = now() - start;
        its[i] = ask(p, "");
    }
    *our_median = median(mine, count);
    *peer_median = median(its, count);
}

/* -- Products: GFLOP/s. */

static struct mbk_tensor tensor(enum mbk_type type, int64_t rows, int64_t columns, double most)
{
    struct mbk_tensor t = mbk_tensor2(NULL, type, rows, columns), f = mbk_tensor2(NULL, MBK_F32, rows, columns);
    t.data = mbk_alloc(k, mbk_bytes(&t));
    f.data = mbk_alloc(k, mbk_bytes(&f));
    if (!t.data || !f.data || mbk_random_uniform(k, 0, (float)most, 1, 0, &f) || mbk_cast(k, &f, &t))
        fail(mbk_error(k));
    mbk_free(k, f.data);
    return t;
}

static void multiply(void *context)
{
    if (mbk_matmul(k, context))
        fail(mbk_error(k));
}

static void bench_products(void)
{
    static const struct {
        const char *name;
        int m, n, k, transpose_a, transpose_b;
    } shapes[] = {
        { "1024x1024x1024", 1024, 1024, 1024, 0, 0 },
        { "BERT-base attention, 4096x768x768", 4096, 768, 768, 0, 1 },
        { "BERT-base up, 4096x3072x768", 4096, 3072, 768, 0, 1 },
        { "BERT-base down, 4096x768x3072", 4096, 768, 3072, 0, 1 },
        { "BERT-base up, backward to x", 4096, 768, 3072, 0, 0 },
        { "BERT-base up, backward to w", 3072, 768, 4096, 1, 0 },
        { "BERT-base attention, backward to w", 768, 768, 4096, 1, 0 },
        { "GPT-2 logits, 1024x50257x768", 1024, 50257, 768, 0, 1 },
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        char name[100], arguments[100];
        int m = shapes[i].m, n = shapes[i].n, d = shapes[i].k, ta = shapes[i].transpose_a, tb = shapes[i].transpose_b;
        snprintf(name, sizeof name, "product %s, GFLOP/s", shapes[i].name);
        if (!wanted(name))
            continue;
        snprintf(arguments, sizeof arguments, "product %d %d %d %d %d", m, n, d, ta, tb);
        struct mbk_tensor a = tensor(MBK_F32, ta ? d : m, ta ? m : d, 1), b = tensor(MBK_F32, tb ? n : d, tb ? d : n, 1);
        struct mbk_tensor c = tensor(MBK_F32, m, n, 1);
        struct mbk_product p = { .a = &a, .b = &b, .c = &c, .transpose_a = ta, .transpose_b = tb };
        struct peer torch = open_peer(arguments);
        double ours, its, flops = 2e-9 * m * n * d;
        take_turns(multiply, &p, &torch, 10 * turns, &ours, &its);
        row(name, flops / ours, flops / its);
        close_peer(&torch);
        mbk_free(k, a.data);
        mbk_free(k, b.data);
        mbk_free(k, c.data);
    }
}

/* -- Training steps: tokens a second, and MiB. */

struct training {
    struct mbl_model *model;
    struct mbl_batch batch;
    struct mbk_tensor labels, losses, doutputs, norm, scale;
    struct mbk_parameter *parameters;
    void *moments;
    int64_t step;
};

static void step(void *context)
{
    struct training *t = context;
    struct mbl_model *m = t->model;
    struct mbl_error e;
    struct mbk_tensor outputs;
    struct mbk_adam adam = { .lr = 1e-5f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .step = ++t->step, .gradient_scale = 1,
                             .scale = &t->scale };
    int count = (int)m->parameter_count;
    t->batch.offset = (uint64_t)t->step * MBL_DROPOUT_STRIDE;
    if (mbk_zero_gradients(k, t->parameters, count))
        fail(mbk_error(k));
    if (m->architecture->forward(m, &t->batch, &outputs, &e))
        fail(e.text);
    if (mbk_cross_entropy(k, &outputs, &t->labels, 0, 1 / (float)outputs.shape[0], &t->losses, &t->doutputs))
        fail(mbk_error(k));
    if (m->architecture->backward(m, &t->batch, &t->doutputs, &e))
        fail(e.text);
    if (mbk_gradient_norm(k, t->parameters, count, 1, &t->norm, &t->scale) || mbk_adam(k, &adam, t->parameters, count))
        fail(mbk_error(k));
}

static void prepare(struct training *t, const char *config, int64_t rows, int64_t time, int narrow)
{
    struct mbl_arena arena = { 0 };
    struct mbl_json *json;
    struct mbl_error e;
    if (mbl_json_parse(config, strlen(config), "config.json", &arena, &json, &e) || mbl_model_create(k, json, &t->model, &e) ||
        mbl_model_allocate(t->model, &e) || mbl_model_allocate_gradients(t->model, &e) || mbl_model_initialize(t->model, 1, &e) ||
        (narrow && mbl_model_narrow(t->model, true, &e)))
        fail(e.text);
    mbl_arena_free(&arena);
    struct mbl_model *m = t->model;
    int64_t answers = mbl_problem_per_token(m->problem) ? rows * time : rows;
    t->batch = (struct mbl_batch){ .ids = tensor(MBK_I32, rows, time, (double)m->vocabulary - 1), .training = true, .seed = 1 };
    t->labels = tensor(MBK_I32, answers, 1, (double)m->outputs - 1);
    t->labels = mbk_tensor1(t->labels.data, MBK_I32, answers);
    t->losses = mbk_tensor1(tensor(MBK_F32, answers, 1, 1).data, MBK_F32, answers);
    t->doutputs = tensor(mbl_model_output_type(m, true), answers, m->outputs, 1);
    t->norm = mbk_tensor(tensor(MBK_F32, 1, 1, 1).data, MBK_F32, 0, NULL);
    t->scale = mbk_tensor(tensor(MBK_F32, 1, 1, 1).data, MBK_F32, 0, NULL);
    t->parameters = calloc(m->parameter_count, sizeof *t->parameters);
    t->moments = mbk_alloc(k, 2 * m->block_bytes);
    if (!t->parameters || !t->moments)
        fail("no memory for the moments");
    for (size_t i = 0; i < m->parameter_count; i++) {
        struct mbk_parameter *p = &t->parameters[i];
        *p = (struct mbk_parameter){ .value = m->parameters[i].value, .gradient = m->parameters[i].gradient, .decay = 0.01f };
        p->first = p->second = p->value;
        if (m->parameters[i].copy.data) {
            p->master = p->value;
            p->value = m->parameters[i].copy;
        }
        p->first.data = (char *)t->moments + ((char *)m->parameters[i].value.data - (char *)m->values);
        p->second.data = (char *)p->first.data + m->block_bytes;
    }
}

static void finish(struct training *t)
{
    void *blocks[] = { t->batch.ids.data, t->labels.data, t->losses.data, t->doutputs.data, t->norm.data, t->scale.data, t->moments };
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        mbk_free(k, blocks[i]);
    free(t->parameters);
    mbl_model_free(t->model);
}

static void bench_steps(void)
{
    static const struct {
        const char *name, *kind, *config;
        int rows, time;
    } models[] = {
        { "BERT-base 32x128", "bert",
          "{\"model_type\": \"bert\", \"architectures\": [\"BertForSequenceClassification\"], \"num_labels\": 2}", 32, 128 },
        { "GPT-2 124M 4x256", "gpt2", "{\"model_type\": \"gpt2\", \"architectures\": [\"GPT2LMHeadModel\"]}", 4, 256 },
    };
    static const char *const attentions[] = { "sdpa", "eager" }, *const types[] = { "float32", "bfloat16" };
    for (size_t j = 0; j < 2 * sizeof models / sizeof *models; j++) {
        size_t i = j / 2;
        const char *type = types[j % 2];
        char name[100], memory_name[100], arguments[100];
        snprintf(name, sizeof name, "training step %s in %s, tokens/s", models[i].name, type);
        snprintf(memory_name, sizeof memory_name, "memory of it, MiB, less is better");
        if (!wanted(name))
            continue;
        struct training t = { 0 };
        double before = begin_memory(), ours = NAN, its = NAN, its_memory = NAN, tokens = models[i].rows * models[i].time;
        prepare(&t, models[i].config, models[i].rows, models[i].time, j % 2);
        for (int a = 0; a < 2; a++) {
            double mine, its_now;
            snprintf(arguments, sizeof arguments, "%s %d %d %s %s", models[i].kind, models[i].rows, models[i].time, attentions[a], type);
            struct peer torch = open_peer(arguments);
            take_turns(step, &t, &torch, turns, &mine, &its_now);
            if (!a || its_now < its) {
                ours = mine;
                its = its_now;
            }
            its_memory = fmin(its_memory, ask(&torch, "memory"));
            close_peer(&torch);
            if (isnan(its_now))
                break;
        }
        row(name, tokens / ours, tokens / its);
        row(memory_name, (status("VmHWM") - before) / 1048576, its_memory / 1048576);
        finish(&t);
    }
}

int main(int argc, char **argv)
{
    char message[512];
    const char *threads = getenv("MB_BENCH_THREADS"), *more = getenv("MB_BENCH_TURNS");
    struct mbk_options options = { .threads = threads ? atoi(threads) : 2 };
    part_count = argc - 1;
    parts = argv + 1;
    turns = more ? atoi(more) : turns;
    signal(SIGPIPE, SIG_IGN);
    if (mbk_open("cpu", &options, &k, message, sizeof message))
        fail(message);
    fprintf(stderr, "cpu: %s\n", mbk_description(k));
    bench_products();
    bench_steps();
    mbk_close(k);
    return 0;
}
