/* bf16.c: products of bfloat16 give the same bits wherever their operands lie. */
#include "kernels.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>

static struct mbk_tensor copy_to(struct mbk *k, char *base, size_t off, const struct mbk_tensor *t)
{
    struct mbk_tensor moved = *t;
    moved.data = base + off;
    CHECK_RUN(k, mbk_copy(k, t, &moved));
    return moved;
}

/* lda 0: dense */
static unsigned char *product_of(struct mbk *k, const struct mbk_tensor *a, int64_t lda, const struct mbk_tensor *b, int transposed,
                                 struct mbk_tensor *c)
{
    unsigned char *bytes = malloc(mbk_bytes(c) + 1);
    CHECK(bytes != NULL);
    CHECK_RUN(k, mbk_matmul(k, &(struct mbk_product){ .a = a, .b = b, .c = c, .transpose_a = transposed & 1, .transpose_b = transposed >> 1,
                                                      .lda = lda }));
    CHECK_RUN(k, mbk_read(k, bytes, c->data, mbk_bytes(c)));
    return bytes;
}

static void body(const void *argument)
{
    static const int64_t shapes[][3] = { { 1, 3, 2 }, { 5, 7, 64 }, { 33, 50, 101 }, { 97, 49, 770 }, { 20, 130, 513 } };
    struct mbk *k = kernels_open(argument, 2);
    for (int i = 0; i < 4 * (int)(sizeof shapes / sizeof shapes[0]); i++) {
        int64_t m = shapes[i / 4][0], n = shapes[i / 4][1], inner = shapes[i / 4][2];
        int transposed = i % 4;
        double *x = kernels_random(m * inner, -1, 1, 1), *y = kernels_random(n * inner, -1, 1, 2);
        struct mbk_tensor a = transposed & 1 ? kernels_put(k, MBK_BF16, SHAPE(inner, m), x) : kernels_put(k, MBK_BF16, SHAPE(m, inner), x);
        struct mbk_tensor b = transposed & 2 ? kernels_put(k, MBK_BF16, SHAPE(n, inner), y) : kernels_put(k, MBK_BF16, SHAPE(inner, n), y);
        struct mbk_tensor c = kernels_put(k, MBK_F32, SHAPE(m, n), NULL);
        unsigned char *expected = product_of(k, &a, 0, &b, transposed, &c);
        char *room = mbk_alloc(k, mbk_bytes(&a) + mbk_bytes(&b) + 512);
        CHECK(room != NULL);
        for (size_t off = 0; off <= 4; off += 2) {
            struct mbk_tensor moved_a = copy_to(k, room, off, &a);
            struct mbk_tensor moved_b = copy_to(k, room, (mbk_bytes(&a) + 255) / 256 * 256 + 4 - off, &b);
            unsigned char *found = product_of(k, &moved_a, 0, &moved_b, transposed, &c);
            CHECK_MEM(found, expected, mbk_bytes(&c));
            free(found);
        }
        int64_t rows = a.shape[0], columns = a.shape[1];
        char *wide = mbk_alloc(k, (size_t)(rows * (columns + 3)) * 2);
        CHECK(wide != NULL);
        for (int64_t more = 1; more <= 3; more++) { /* rows of a longer than they need be */
            struct mbk_tensor spread = mbk_tensor2(wide, MBK_BF16, rows, columns);
            for (int64_t r = 0; r < rows; r++) {
                struct mbk_tensor row = mbk_rows(&a, r, 1), to = mbk_tensor2(wide + 2 * r * (columns + more), MBK_BF16, 1, columns);
                CHECK_RUN(k, mbk_copy(k, &row, &to));
            }
            unsigned char *found = product_of(k, &spread, columns + more, &b, transposed, &c);
            CHECK_MEM(found, expected, mbk_bytes(&c));
            free(found);
        }
        mbk_free(k, wide);
        mbk_free(k, room);
        kernels_drop(k, &a);
        kernels_drop(k, &b);
        kernels_drop(k, &c);
        free(expected);
        free(x);
        free(y);
    }
    kernels_close(k);
}

TEST_TABLE
{
    test_add(body, "cpu", "cpu: products of bfloat16 give the same bits wherever their operands lie");
}
