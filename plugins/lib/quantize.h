/* quantize.h: from a float32 model to one with int8 weights: scales from data, weights by channel. */
#ifndef MBL_QUANTIZE_H
#define MBL_QUANTIZE_H

#include "feed.h"

struct mbl_quantize_options {
    double percentile;           /* of |activation|: what the scale covers; 100: the greatest */
    int64_t batch;
};

struct mbl_quantize_report {
    double weight_error;         /* ‖w − ŵ‖ / ‖w‖ over all weights */
    size_t layers;
};

/* Makes an int8 copy of `m`, which is float32. Symmetric: weights with a scale for each output channel, activations with one a layer,
 * measured on `calibrate` (bound to m). */
MBL_EXPORT int mbl_quantize(struct mbl_model *m, struct mbl_feed *calibrate, const struct mbl_quantize_options *o,
                            struct mbl_model **out, struct mbl_quantize_report *report, struct mbl_error *e);

#endif
