/* amx_registers.h: AMX's registers and instructions in C, as the manual's operation sections have them, and strict about what the processor
 * refuses. Included by kernels/cpu/amx.c in place of the compiler's intrinsics. */
#ifndef TESTS_AMX_REGISTERS_H
#define TESTS_AMX_REGISTERS_H

#include "test.h"

#include <stdint.h>
#include <string.h>

#define AMX_TARGET

static struct {
    uint8_t configuration[64];
    uint8_t tile[8][16][64];
} amx;

static int amx_rows(int tile)
{
    CHECK(amx.configuration[0] == 1 && tile < 8);
    return amx.configuration[48 + tile];
}

static int amx_row_bytes(int tile)
{
    CHECK(amx.configuration[0] == 1 && tile < 8);
    return amx.configuration[16 + 2 * tile] | amx.configuration[17 + 2 * tile] << 8;
}

static void _tile_loadconfig(const void *from)
{
    memset(&amx, 0, sizeof amx);
    memcpy(amx.configuration, from, sizeof amx.configuration);
    for (int i = 0; i < 8; i++) /* both 0, or both within the palette's */
        CHECK(amx_rows(i) <= 16 && amx_row_bytes(i) <= 64 && !amx_rows(i) == !amx_row_bytes(i));
}

static void _tile_release(void)
{
    memset(&amx, 0, sizeof amx);
}

static void _tile_loadd(int tile, const void *from, int64_t stride)
{
    CHECK(amx_rows(tile) > 0);
    memset(amx.tile[tile], 0, sizeof amx.tile[tile]);
    for (int i = 0; i < amx_rows(tile); i++)
        memcpy(amx.tile[tile][i], (const char *)from + i * stride, (size_t)amx_row_bytes(tile));
}

static void _tile_stored(int tile, void *to, int64_t stride)
{
    CHECK(amx_rows(tile) > 0);
    for (int i = 0; i < amx_rows(tile); i++)
        memcpy((char *)to + i * stride, amx.tile[tile][i], (size_t)amx_row_bytes(tile));
}

static void amx_check_shapes(int c, int a, int b)
{
    CHECK(c != a && a != b && c != b);
    CHECK(amx_rows(a) == amx_rows(c) && amx_row_bytes(b) == amx_row_bytes(c) && amx_row_bytes(a) == 4 * amx_rows(b));
}

/* TDPBSSD */
static void _tile_dpbssd(int c, int a, int b)
{
    amx_check_shapes(c, a, b);
    for (int m = 0; m < amx_rows(c); m++)
        for (int k = 0; k < amx_row_bytes(a) / 4; k++)
            for (int n = 0; n < amx_row_bytes(c) / 4; n++) {
                int32_t sum;
                memcpy(&sum, amx.tile[c][m] + 4 * n, 4);
                for (int q = 0; q < 4; q++)
                    sum += (int8_t)amx.tile[a][m][4 * k + q] * (int8_t)amx.tile[b][k][4 * n + q];
                memcpy(amx.tile[c][m] + 4 * n, &sum, 4);
            }
}

static float amx_bf16(const uint8_t *from)
{
    uint32_t bits = (uint32_t)(from[0] | from[1] << 8) << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* TDPBF16PS: even and odd elements are summed apart, and added to c at the end. */
static void _tile_dpbf16ps(int c, int a, int b)
{
    amx_check_shapes(c, a, b);
    for (int m = 0; m < amx_rows(c); m++)
        for (int n = 0; n < amx_row_bytes(c) / 4; n++) {
            float even = 0, odd = 0, sum;
            for (int k = 0; k < amx_row_bytes(a) / 4; k++) {
                even += amx_bf16(amx.tile[a][m] + 4 * k) * amx_bf16(amx.tile[b][k] + 4 * n);
                odd += amx_bf16(amx.tile[a][m] + 4 * k + 2) * amx_bf16(amx.tile[b][k] + 4 * n + 2);
            }
            memcpy(&sum, amx.tile[c][m] + 4 * n, 4);
            sum += even + odd;
            memcpy(amx.tile[c][m] + 4 * n, &sum, 4);
        }
}

#endif
