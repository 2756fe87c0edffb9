/* amx.c: see amx.h. tests/kernels/amx.c includes this file with AMX_REGISTERS set to a header that does in C what the instructions do, so
 * that the arithmetic around them is tested on any processor.
 */
#include "amx.h"

#ifdef __x86_64__
#ifdef AMX_REGISTERS
#include AMX_REGISTERS
#else
#include <immintrin.h>
#define AMX_TARGET __attribute__((target("amx-tile,amx-int8,amx-bf16")))
#endif

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    ROW_BYTES = 64,
    STEPS = ROW_BYTES / 4,      /* of k that a tile holds, four bytes each: four int8 or two bfloat16 */
    TILES = AMX_COLUMNS / STEPS /* beside each other: registers 0 … 2 are sums, 3 is a, 4 … 6 are b */
};

/* What LDTILECFG reads. */
struct configuration {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};
_Static_assert(sizeof(struct configuration) == 64, "LDTILECFG reads 64 bytes");

/* One operand pair, both as rows of four-byte elements; c as 32-bit sums. */
struct strip {
    int64_t steps;
    const char *a;
    int64_t a_row, a_step; /* bytes */
    const char *b;         /* a step is AMX_COLUMNS elements */
    int rows, tiles;
};

static const char *gather_a(const struct strip *s, int64_t from, int64_t steps, char *buffer)
{
    for (int i = 0; i < s->rows; i++) {
        const char *row = s->a + i * s->a_row + from * s->a_step;
        char *to = buffer + i * ROW_BYTES;
        for (int64_t p = 0; p < steps; p++)
            memcpy(to + 4 * p, row + p * s->a_step, 4);
        memset(to + 4 * steps, 0, (size_t)(ROW_BYTES - 4 * steps));
    }
    return buffer;
}

static const char *gather_b(const struct strip *s, int64_t from, int64_t steps, char *buffer)
{
    size_t row = AMX_COLUMNS * 4;
    memcpy(buffer, s->b + from * (int64_t)row, (size_t)steps * row);
    memset(buffer + (size_t)steps * row, 0, (size_t)(STEPS - steps) * row);
    return buffer;
}

/* gcc's intrinsics before 12.4 and 13.3 don't say that they read memory: what was stored for them must have been. */
static inline void memory_is_read(void)
{
    __asm__ volatile("" ::: "memory");
}

/* Registers' numbers are part of the instructions, so the two kinds of product cannot be an argument. */
#define STRIP(name, product) \
    AMX_TARGET static void name(const struct strip *s, char sums[AMX_ROWS][AMX_COLUMNS * 4]) \
    { \
        char own_a[AMX_ROWS * ROW_BYTES], own_b[STEPS * AMX_COLUMNS * 4]; \
        const int64_t b_row = AMX_COLUMNS * 4, c_row = AMX_COLUMNS * 4; \
        struct configuration shapes = { .palette = 1 }; \
        for (int i = 0; i < 7; i++) { \
            shapes.row_bytes[i] = ROW_BYTES; \
            shapes.rows[i] = (uint8_t)(i < 4 ? s->rows : STEPS); \
        } \
        memory_is_read(); \
        _tile_loadconfig(&shapes); /* and all registers are 0 */ \
        for (int64_t p = 0; p < s->steps; p += STEPS) { \
            int64_t n = s->steps - p < STEPS ? s->steps - p : STEPS, a_row = ROW_BYTES; \
            const char *a, *b = n < STEPS ? gather_b(s, p, n, own_b) : s->b + p * b_row; \
            if (n == STEPS && s->a_step == 4) { \
                a = s->a + p * 4; \
                a_row = s->a_row; \
            } else \
                a = gather_a(s, p, n, own_a); \
            memory_is_read(); \
            _tile_loadd(3, a, a_row); \
            _tile_loadd(4, b, b_row); \
            product(0, 3, 4); \
            if (s->tiles > 1) { \
                _tile_loadd(5, b + ROW_BYTES, b_row); \
                product(1, 3, 5); \
            } \
            if (s->tiles > 2) { \
                _tile_loadd(6, b + 2 * ROW_BYTES, b_row); \
                product(2, 3, 6); \
            } \
        } \
        _tile_stored(0, sums, c_row); \
        if (s->tiles > 1) \
            _tile_stored(1, sums[0] + ROW_BYTES, c_row); \
        if (s->tiles > 2) \
            _tile_stored(2, sums[0] + 2 * ROW_BYTES, c_row); \
        _tile_release(); \
    }
STRIP(strip_int8, _tile_dpbssd)
STRIP(strip_bf16, _tile_dpbf16ps)

void cpu_amx_tile_int8(const struct cpu_int8_tile *t)
{
    char sums[AMX_ROWS][AMX_COLUMNS * 4];
    struct strip s = { .steps = t->steps, .a = (const char *)t->a, .a_row = t->a_row, .a_step = 4, .b = (const char *)t->b, .rows = t->rows,
                       .tiles = (t->columns + STEPS - 1) / STEPS };
    strip_int8(&s, sums);
    for (int i = 0; i < t->rows; i++)
        memcpy(t->c + i * t->ldc, sums[i], (size_t)t->columns * sizeof *t->c);
}

void cpu_amx_tile_bf16(const struct cpu_tile *t)
{
    char sums[AMX_ROWS][AMX_COLUMNS * 4];
    struct strip s = { .steps = t->k, .a = (const char *)t->a, .a_row = 4 * t->a_row, .a_step = 4 * t->a_step, .b = (const char *)t->b,
                       .rows = t->rows, .tiles = (t->columns + STEPS - 1) / STEPS };
    strip_bf16(&s, sums);
    for (int i = 0; i < t->rows; i++) {
        float *c = t->c + i * t->ldc, sum[AMX_COLUMNS];
        memcpy(sum, sums[i], sizeof sum);
        for (int j = 0; j < t->columns; j++)
            c[j] = t->add ? c[j] + sum[j] : sum[j];
    }
}

/* -- Whether it may be used */

/* 17 steps are one whole tile and one that is filled up; small whole numbers are exact in both types. */
static int comes_out_right(void)
{
    enum { K = 17, ROWS = 3, COLUMNS = 19 };
    static const uint16_t small[] = { 0, 0x3f80, 0x4000, 0x4040, 0xbf80 }; /* 0, 1, 2, 3, −1 as bfloat16 */
    static const int values[] = { 0, 1, 2, 3, -1 };
    int8_t a8[ROWS][4 * K], b8[K][AMX_COLUMNS][4];
    uint16_t a16[ROWS][2 * K], b16[K][AMX_COLUMNS][2];
    int32_t c8[ROWS][AMX_COLUMNS];
    float a[ROWS][K], b[K][AMX_COLUMNS], c16[ROWS][AMX_COLUMNS];
    for (int i = 0; i < ROWS; i++)
        for (int p = 0; p < 4 * K; p++) {
            a8[i][p] = (int8_t)values[(i + p) % 5];
            if (p < 2 * K)
                a16[i][p] = small[(i + p) % 5];
        }
    for (int p = 0; p < K; p++)
        for (int j = 0; j < AMX_COLUMNS; j++)
            for (int q = 0; q < 4; q++) {
                b8[p][j][q] = (int8_t)values[(3 * p + j + q) % 5];
                if (q < 2)
                    b16[p][j][q] = small[(3 * p + j + q) % 5];
            }
    memcpy(a, a16, sizeof a);
    memcpy(b, b16, sizeof b);
    struct cpu_int8_tile t8 = { .steps = K, .a = a8[0], .a_row = 4 * K, .b = b8[0][0], .c = c8[0], .ldc = AMX_COLUMNS, .rows = ROWS,
                                .columns = COLUMNS };
    struct cpu_tile t16 = { .k = K, .a = a[0], .a_row = K, .a_step = 1, .b = b[0], .c = c16[0], .ldc = AMX_COLUMNS, .rows = ROWS,
                            .columns = COLUMNS };
    cpu_amx_tile_int8(&t8);
    cpu_amx_tile_bf16(&t16);
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < COLUMNS; j++) {
            int sum8 = 0, sum16 = 0;
            for (int p = 0; p < K; p++)
                for (int q = 0; q < 4; q++) {
                    sum8 += values[(i + 4 * p + q) % 5] * values[(3 * p + j + q) % 5];
                    if (q < 2)
                        sum16 += values[(i + 2 * p + q) % 5] * values[(3 * p + j + q) % 5];
                }
            if (c8[i][j] != sum8 || c16[i][j] != (float)sum16)
                return 0;
        }
    return 1;
}

/* Leaf 7: EDX bits 22 (BF16), 24 (tiles), 25 (INT8); the system saves tiles: bits 17 and 18 of XCR0. */
static int processor_has_it(void)
{
    unsigned a, b, c, d, low, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1) || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 22 & 1) ||
        !(d >> 24 & 1) || !(d >> 25 & 1))
        return 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low >> 17 & 3) == 3;
}

int cpu_amx_usable(void)
{
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 }; /* ARCH_REQ_XCOMP_PERM: Documentation/arch/x86/xstate.rst of Linux */
    return processor_has_it() && syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0 && comes_out_right();
}
#endif
