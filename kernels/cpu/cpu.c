/* cpu.c: the CPU as a device: its memory, its scratch, what this processor can do, and the table of its operations. */
#include "config.h"
#include "cpu.h"
#include "amx.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#ifdef __x86_64__
#include <cpuid.h>
#endif


/* Before what mbk_alloc returns stands its size; 256 bytes of room keep the alignment. */
enum { ALIGN = 256, SCRATCH_ALIGN = 64 };

struct cpu_overflow {
    struct cpu_overflow *next;
    size_t start, bytes; /* where it would lie in the block */
};

/* -- Memory. */

static size_t round_up(size_t bytes, size_t to)
{
    return (bytes + to - 1) / to * to;
}

static void *cpu_alloc(struct mbk *k, size_t bytes)
{
    char *p = bytes < SIZE_MAX / 2 ? aligned_alloc(ALIGN, round_up(bytes, ALIGN) + ALIGN) : NULL;
    if (!p) {
        mbk_fail(k, "no memory for %zu bytes; %zu are in use", bytes, k->memory);
        return NULL;
    }
    memcpy(p, &bytes, sizeof bytes);
    memset(p + ALIGN, 0, bytes);
    k->memory += bytes;
    return p + ALIGN;
}

static void cpu_free(struct mbk *k, void *p)
{
    size_t bytes;
    memcpy(&bytes, (char *)p - ALIGN, sizeof bytes);
    k->memory -= bytes;
    free((char *)p - ALIGN);
}

/* What is large is moved by all threads, a piece each; overlapping ranges by one. */
struct move {
    char *to;
    const char *from; /* NULL: zeros */
};

static void move_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct move *m = context;
    (void)worker;
    if (m->from)
        memcpy(m->to + first, m->from + first, (size_t)(end - first));
    else
        memset(m->to + first, 0, (size_t)(end - first));
}

static int cpu_copy(struct mbk *k, void *to, const void *from, size_t bytes)
{
    enum { PIECE = 1 << 19 };
    uintptr_t a = (uintptr_t)to, b = (uintptr_t)from;
    struct move m = { to, from };
    if (a < b + bytes && b < a + bytes)
        memmove(to, from, bytes);
    else
        cpu_parallel(k, (int64_t)bytes, PIECE, move_body, &m);
    return 0;
}

static int cpu_zero(struct mbk *k, void *to, size_t bytes)
{
    enum { PIECE = 1 << 19 };
    struct move m = { to, NULL };
    cpu_parallel(k, (int64_t)bytes, PIECE, move_body, &m);
    return 0;
}

static int cpu_sync(struct mbk *k)
{
    (void)k;
    return 0;
}

/* -- Scratch. */

size_t cpu_mark(struct mbk *k)
{
    return cpu_of(k)->scratch_used;
}

void *cpu_scratch(struct mbk *k, size_t bytes)
{
    struct cpu *c = cpu_of(k);
    size_t start = c->scratch_used;
    bytes = round_up(bytes ? bytes : 1, SCRATCH_ALIGN);
    if (bytes <= c->scratch_cap && start <= c->scratch_cap - bytes && !c->overflow) {
        c->scratch_used = start + bytes;
        if (c->scratch_used > c->scratch_peak)
            c->scratch_peak = c->scratch_used;
        return c->scratch + start;
    }
    struct cpu_overflow *o = bytes < SIZE_MAX / 2 ? aligned_alloc(SCRATCH_ALIGN, SCRATCH_ALIGN + bytes) : NULL;
    if (!o) {
        mbk_fail(k, "no memory for %zu bytes of scratch; %zu are in use", bytes, k->memory);
        return NULL;
    }
    *o = (struct cpu_overflow){ .next = c->overflow, .start = start, .bytes = bytes };
    c->overflow = o;
    c->scratch_used = start + bytes;
    if (c->scratch_used > c->scratch_peak)
        c->scratch_peak = c->scratch_used;
    k->memory += bytes;
    return (char *)o + SCRATCH_ALIGN;
}

/* What was taken after the mark. */
static void free_overflow(struct mbk *k, size_t mark)
{
    struct cpu *c = cpu_of(k);
    while (c->overflow && c->overflow->start >= mark) {
        struct cpu_overflow *next = c->overflow->next;
        k->memory -= c->overflow->bytes;
        free(c->overflow);
        c->overflow = next;
    }
}

/* Grows the block once nothing is in it, so that the next step finds room for all it takes. */
void cpu_release(struct mbk *k, size_t mark)
{
    struct cpu *c = cpu_of(k);
    c->scratch_used = mark;
    free_overflow(k, mark);
    if (mark != 0 || c->scratch_peak <= c->scratch_cap)
        return;
    char *larger = aligned_alloc(SCRATCH_ALIGN, round_up(c->scratch_peak, SCRATCH_ALIGN));
    if (!larger)
        return; /* the next call takes pieces again */
    k->memory += c->scratch_peak - c->scratch_cap;
    free(c->scratch);
    c->scratch = larger;
    c->scratch_cap = c->scratch_peak;
}

/* -- What this processor can do. MBK_CPU=plain, blas, avx2, avx-vnni or avx512 in the environment takes it down to that, for
 * tests and for finding faults. */

static void look(struct cpu *c)
{
#ifdef __x86_64__
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        c->level = CPU_AVX2;
    if (c->level == CPU_AVX2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        c->level = CPU_AVX512;
    /* AVX-VNNI has no name in the compilers' lists: leaf 7.1, EAX bit 4. */
    unsigned a, b, cx, d;
    c->avx_vnni = c->level >= CPU_AVX2 && __get_cpuid_count(7, 1, &a, &b, &cx, &d) && (a >> 4 & 1);
    c->avx512_vnni = c->level == CPU_AVX512 && __builtin_cpu_supports("avx512vnni");
    c->avx512_bf16 = c->level == CPU_AVX512 && __builtin_cpu_supports("avx512bf16");
#endif
    const char *limit = getenv("MBK_CPU");
    if (limit && (strcmp(limit, "plain") == 0 || strcmp(limit, "blas") == 0))
        c->level = CPU_PLAIN;
    if (limit && (strcmp(limit, "avx2") == 0 || strcmp(limit, "avx-vnni") == 0) && c->level > CPU_AVX2)
        c->level = CPU_AVX2;
    c->avx512_vnni &= c->level == CPU_AVX512;
    c->avx512_bf16 &= c->level == CPU_AVX512 && !(limit && strcmp(limit, "avx512") == 0);
#ifdef HAVE_OPENBLAS
    c->blas = c->level == CPU_PLAIN && !(limit && strcmp(limit, "plain") == 0);
#endif
    c->avx_vnni &= c->level >= CPU_AVX2 && !(limit && strcmp(limit, "avx2") == 0);
#ifdef __x86_64__
    c->amx = c->avx512_vnni && c->avx512_bf16 && cpu_amx_usable();
#endif
}

static int cpu_available(int index)
{
    return index == 0;
}

static int processors(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > 256 ? 256 : (int)n;
}

static void cpu_close(struct mbk *k)
{
    struct cpu *c = cpu_of(k);
    cpu_pool_close(c->pool);
    free_overflow(k, 0);
    free(c->scratch);
    free(c);
}

static int cpu_open(struct mbk *k, int index, const struct mbk_options *options)
{
    static const char *const levels[] = { "plain", "AVX2", "AVX-512" };
    if (index != 0)
        return mbk_fail(k, "there is one cpu, number 0, not %d", index);
    struct cpu *c = calloc(1, sizeof *c);
    if (!c)
        return mbk_fail(k, "no memory for a stream on cpu");
    k->state = c;
    c->threads = options->threads > 0 ? options->threads < 256 ? options->threads : 256 : processors();
    look(c);
    c->pool = cpu_pool_open(c->threads);
    if (!c->pool || (options->scratch && !cpu_scratch(k, options->scratch))) {
        if (c->pool)
            cpu_close(k);
        else
            free(c);
        return mbk_fail(k, "cannot start %d threads with %zu bytes of scratch", options->threads, options->scratch);
    }
    cpu_release(k, 0);
    snprintf(k->description, sizeof k->description, "%d thread%s, %s%s%s%s%s%s", c->threads, c->threads == 1 ? "" : "s", levels[c->level],
             c->avx512_vnni ? " VNNI" : "", c->avx_vnni ? " AVX-VNNI" : "", c->avx512_bf16 ? " BF16" : "", c->amx ? " AMX" : "",
             c->blas ? ", CBLAS" : "");
    return 0;
}

static int cpu_supports(const struct mbk *k, enum mbk_type type)
{
    (void)k;
    switch (type) {
    case MBK_F32: case MBK_BF16: case MBK_I8: case MBK_I4: case MBK_Q8_0: case MBK_Q4_0: case MBK_Q4_K: return 1;
    default: return 0;
    }
}

#define ENTRY(name) .name = cpu_##name,

const struct mbk_backend mbk_cpu_backend = {
    .version = MBK_BACKEND_VERSION,
    .size = sizeof(struct mbk_backend),
    .name = "cpu",
    .available = cpu_available,
    .open = cpu_open,
    .close = cpu_close,
    .supports = cpu_supports,
    .sync = cpu_sync,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .write = cpu_copy,
    .read = cpu_copy,
    .copy = cpu_copy,
    .zero = cpu_zero,
    CPU_OPERATIONS(ENTRY)
};
