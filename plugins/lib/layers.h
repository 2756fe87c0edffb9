/* layers.h: what mlp and cnn are made of: a straight line of layers, forward and backward, float32 or int8.
 *
 * Knows of models only their parameters. A quantized layer takes float32, quantizes it by its stored scale, multiplies in int8 and
 * gives float32 again.
 */
#ifndef MBL_LAYERS_H
#define MBL_LAYERS_H

#include "model.h"

enum mbl_layer_kind { MBL_LINEAR, MBL_CONVOLUTION, MBL_POOL };

struct mbl_layer {
    enum mbl_layer_kind kind;
    int64_t in[3], out[3];           /* height, width, channels; a linear layer: 1, 1, n */
    struct mbk_window window;        /* convolution and pool */
    enum mbk_activation activation;
    float dropout;                   /* behind the activation, while training */
    size_t weight, bias, scales, input_scale; /* parameters; the last two only where the model is quantized */
    float scale;                     /* input_scale's value */
    void *before, *after, *argmax, *patches; /* memory of the batch */
};

struct mbl_net {
    struct mbl_layer *layers;
    size_t count, cap;
    int64_t rows;                    /* what there is room for */
    bool training;
    void *block;                     /* the device memory of all batches' values */
    void *gradients[2];              /* of activations: a layer reads one and writes the other */
    void *input_gradient;            /* where backward puts that of what came in; NULL: it isn't wanted */
};

/* Adds a layer behind the last; `name` is "layers.0", under which its parameters are declared. */
void mbl_net_linear(struct mbl_model *m, struct mbl_net *n, const char *name, int64_t in, const int64_t in_image[3], int64_t out,
                    enum mbk_activation f, float dropout);
void mbl_net_convolution(struct mbl_model *m, struct mbl_net *n, const char *name, const int64_t in[3], int64_t out, int kernel,
                         enum mbk_activation f);
void mbl_net_pool(struct mbl_net *n, struct mbl_model *m, const int64_t in[3], int size);

int mbl_net_reserve(struct mbl_model *m, struct mbl_net *n, int64_t rows, bool training, struct mbl_error *e);
int mbl_net_forward(struct mbl_model *m, struct mbl_net *n, const struct mbl_batch *b, struct mbk_tensor *outputs, struct mbl_error *e);
int mbl_net_backward(struct mbl_model *m, struct mbl_net *n, const struct mbl_batch *b, const struct mbk_tensor *doutputs,
                     struct mbl_error *e);
void mbl_net_release(struct mbl_model *m, struct mbl_net *n);

#endif
