/* train_augment.c: rows that are never quite the same twice: images moved by a few pixels or mirrored, anew in each epoch; see train.h. */
#include "train.h"

/* Raw pixels are moved, and scaled only then: each place has a scale of its own. What comes in at the border is raw 0. */
void mbl_augment_row(const struct mbl_train_options *o, const struct mbl_schema *s, int64_t epoch, int64_t row, const float *raw,
                     float *out) {
    const int64_t H = s->shape[0], W = s->shape[1], C = s->shape[2];
    uint32_t words[4];
    mbk_philox(mbl_seed_for(o->seed, MBL_FOR_IMAGES), (uint64_t)epoch << 32 | (uint64_t)row, words);
    int64_t span = 2 * o->shift + 1, down = (int64_t)(words[0] % span) - o->shift, right = (int64_t)(words[1] % span) - o->shift;
    bool mirror = o->mirror && (words[2] & 1);
    for (int64_t y = 0; y < H; y++)
        for (int64_t x = 0; x < W; x++) {
            int64_t from_y = y - down, from_x = (mirror ? W - 1 - x : x) - right;
            bool inside = from_y >= 0 && from_y < H && from_x >= 0 && from_x < W;
            for (int64_t c = 0; c < C; c++) {
                int64_t i = (y * W + x) * C + c;
                out[i] = ((inside ? raw[(from_y * W + from_x) * C + c] : 0) - s->offset[i]) * s->factor[i];
            }
        }
}
