/* A model's folder from anywhere: four bytes say how long its config.json is, then that, then its model.safetensors. Loading ends, reads nothing outside,
 * takes no more memory than the weights' file has bytes for; and a config that is taken is written so that it is taken again, to the same text. */
#include "lib/model.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_again(struct mbk *k, const struct mbl_model *m) {
    struct mbl_error e;
    struct mbl_model *again;
    struct mbl_buf first = {0}, second = {0};
    if (mbl_model_create(k, m->config, &again, &e)) abort();
    mbl_json_write(m->config, MBL_JSON_COMPACT, &first);
    mbl_json_write(again->config, MBL_JSON_COMPACT, &second);
    if (first.len != second.len || memcmp(first.data, second.data, first.len)) abort();
    if (again->parameter_count != m->parameter_count) abort();
    mbl_buf_free(&first);
    mbl_buf_free(&second);
    mbl_model_free(again);
}

static void use_tokens(struct mbl_model *m) {
    struct mbl_error e;
    struct mbk_tensor y;
    static int32_t zeroes[2];
    struct mbl_batch b = {.ids = mbk_tensor2(zeroes, MBK_I32, 2, 1)};
    if (!mbl_model_reserve(m, 2, 1, false, &e) && m->architecture->forward(m, &b, &y, &e)) abort();
}

static void use(struct mbl_model *m) {
    struct mbl_error e;
    struct mbk_tensor y;
    if (m->architecture->takes == MBL_TAKES_TOKENS) {
        use_tokens(m);
        return;
    }
    if (m->architecture->takes == MBL_TAKES_PAIRS) return; /* it takes no batch without a catalogue: fuzz/dataset.c */
    struct mbl_batch b = {.x = mbk_tensor2(NULL, MBK_F32, 2, (int64_t)m->schema.features)};
    b.x.data = mbk_alloc(m->k, mbk_bytes(&b.x));
    if (b.x.data && !m->architecture->reserve(m, 2, false, &e) && m->architecture->forward(m, &b, &y, &e)) abort();
    mbk_free(m->k, b.x.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct mbk *k;
    static char message[256];
    struct mbk_options one = {.threads = 1};
    struct mbl_arena a = {0};
    struct mbl_error e;
    struct mbl_json *config;
    struct mbl_model *m = NULL;
    struct mbl_safetensors file = {0};
    if (!k && mbk_open("cpu", &one, &k, message, sizeof message)) abort();
    if (size < 4) return 0;
    size_t length = (size_t)data[0] | (size_t)data[1] << 8 | (size_t)data[2] << 16, rest;
    data += 4;
    size -= 4;
    if (length > size) length = size;
    rest = size - length;
    if (!mbl_json_parse((const char *)data, length, "config.json", &a, &config, &e) && !mbl_model_create(k, config, &m, &e)) {
        write_again(k, m);
        if (!mbl_safetensors_parse(data + length, rest, "model.safetensors", &file, &e) && !mbl_model_read_weights(m, &file, &e)) {
            size_t wider = m->architecture->takes == MBL_TAKES_TOKENS ? 2 : 1; /* of bfloat16 comes float32 */
            if (m->block_bytes > 512 * (m->parameter_count + 1) + wider * rest) abort();
            use(m);
        }
    }
    mbl_safetensors_close(&file);
    mbl_model_free(m);
    mbl_arena_free(&a);
    return 0;
}
