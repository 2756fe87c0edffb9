/* amx.c: what is around AMX's instructions, with these done in C: any processor tests it, and the addresses that are read. */
#include "test.h"

#ifdef __x86_64__
#define AMX_REGISTERS "../../tests/kernels/amx_registers.h"
#include "../../kernels/cpu/amx.c"

#include <stdlib.h>

static uint32_t next(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Blocks of just the bytes that may be read, so that AddressSanitizer sees one too many. */
static void *block(size_t bytes)
{
    void *p = malloc(bytes ? bytes : 1);
    CHECK(p != NULL);
    return p;
}

static void int8_body(const void *unused)
{
    (void)unused;
    uint32_t state = 1;
    for (int test = 0; test < 400; test++) {
        int rows = 1 + (int)next(&state) % AMX_ROWS, columns = 1 + (int)next(&state) % AMX_COLUMNS;
        int64_t steps = next(&state) % 50, a_row = 4 * steps + next(&state) % 9;
        size_t a_bytes = (size_t)((rows - 1) * a_row + 4 * steps), b_bytes = (size_t)(steps * AMX_COLUMNS * 4);
        int8_t *a = block(a_bytes), *b = block(b_bytes);
        for (size_t i = 0; i < a_bytes; i++)
            a[i] = (int8_t)next(&state);
        for (size_t i = 0; i < b_bytes; i++)
            b[i] = (int8_t)next(&state);
        int64_t ldc = columns + 3;
        int32_t *c = block((size_t)((rows - 1) * ldc + columns) * sizeof *c);
        for (int64_t i = 0; i < (rows - 1) * ldc + columns; i++)
            c[i] = 77;
        cpu_amx_tile_int8(&(struct cpu_int8_tile){ .steps = steps, .a = a, .a_row = a_row, .b = b, .c = c, .ldc = ldc, .rows = rows,
                                                   .columns = columns });
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < (i + 1 < rows ? ldc : columns); j++) {
                int32_t sum = 0;
                for (int64_t p = 0; p < 4 * steps && j < columns; p++)
                    sum += a[i * a_row + p] * b[(p / 4 * AMX_COLUMNS + j) * 4 + p % 4];
                CHECK(c[i * ldc + j] == (j < columns ? sum : 77));
            }
        free(a), free(b), free(c);
    }
}

/* Whole numbers up to 8, so that no order of adding rounds. */
static uint16_t small_bf16(uint32_t *state)
{
    float x = (float)((int)(next(state) % 17) - 8);
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)(bits >> 16);
}

static float value_of(const float *pairs, int64_t at, int which)
{
    uint8_t bytes[4];
    memcpy(bytes, pairs + at, sizeof bytes);
    return amx_bf16(bytes + 2 * which);
}

static float *block_of_pairs(int64_t n, uint32_t *state)
{
    float *pairs = block((size_t)n * sizeof *pairs);
    for (int64_t i = 0; i < n; i++) {
        uint16_t pair[2] = { small_bf16(state), small_bf16(state) };
        memcpy(pairs + i, pair, sizeof pair);
    }
    return pairs;
}

static void bf16_body(const void *unused)
{
    (void)unused;
    uint32_t state = 2;
    for (int test = 0; test < 400; test++) {
        int rows = 1 + (int)next(&state) % AMX_ROWS, columns = 1 + (int)next(&state) % AMX_COLUMNS, add = test % 2, across = test / 2 % 2;
        int64_t k = next(&state) % 50, a_row = across ? 1 : k + next(&state) % 5, a_step = across ? rows + next(&state) % 5 : 1;
        float *a = block_of_pairs(k ? (rows - 1) * a_row + (k - 1) * a_step + 1 : 0, &state), *b = block_of_pairs(k * AMX_COLUMNS, &state);
        int64_t ldc = columns + 3;
        float *c = block((size_t)((rows - 1) * ldc + columns) * sizeof *c);
        for (int64_t i = 0; i < (rows - 1) * ldc + columns; i++)
            c[i] = 77;
        cpu_amx_tile_bf16(&(struct cpu_tile){ .k = k, .a = a, .a_row = a_row, .a_step = a_step, .b = b, .c = c, .ldc = ldc, .rows = rows,
                                              .columns = columns, .add = add });
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < (i + 1 < rows ? ldc : columns); j++) {
                float sum = add ? 77 : 0;
                for (int64_t p = 0; p < 2 * k && j < columns; p++)
                    sum += value_of(a, i * a_row + p / 2 * a_step, p % 2) * value_of(b, p / 2 * AMX_COLUMNS + j, p % 2);
                CHECK(c[i * ldc + j] == (j < columns ? sum : 77));
            }
        free(a), free(b), free(c);
    }
}

static void check_body(const void *unused)
{
    (void)unused;
    CHECK(comes_out_right());
}

TEST_TABLE
{
    test_add(int8_body, NULL, "AMX: tiles of bytes are exact for all sizes, and nothing around their operands is read or written");
    test_add(bf16_body, NULL, "AMX: so are tiles of bfloat16, whichever way a lies, and they may add to c");
    test_add(check_body, NULL, "AMX: the product by which it is tried before it is used comes out right");
}
#else
TEST_TABLE
{
}
#endif
