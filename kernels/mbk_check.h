/* mbk_check.h: shapes and types, checked once for all devices.
 *
 * What an operation wants of its tensors is one line of text, a word for each tensor in the order of the arguments:
 *
 *     "x:f[...,I] w:f[O,I] bias?:f[O] y:f[...,O]"
 *
 * A letter is a size: any at its first place, the same one at all others. `...` stands for any number of leading dimensions, the same
 * everywhere; R is their product, and a tensor that is [R] alone may have any shape of so many elements. Types: `f` is float32 or
 * bfloat16, the same for all that have it; `F` is either, of its own; `*` is any; else the name of a type. `?` marks a
 * tensor that may be NULL. Must not read what the tensors hold: it lies on a device.
 */
#ifndef MBK_CHECK_H
#define MBK_CHECK_H

#include "backend.h"

/* The tensors follow, each a const struct mbk_tensor *. Returns 0, or -1 with a message that names both shapes. */
int mbk_check(struct mbk *k, const char *operation, const char *pattern, ...);

/* "F32 [3, 4]" into `text`, which is returned. */
#define MBK_SHAPE_TEXT 160
const char *mbk_shape_text(const struct mbk_tensor *t, char text[MBK_SHAPE_TEXT]);

/* For what a pattern cannot say: fails with both tensors' types and shapes, and why they don't go together. */
int mbk_mismatch(struct mbk *k, const char *operation, const char *a_name, const struct mbk_tensor *a, const char *b_name,
                 const struct mbk_tensor *b, const char *why);

int mbk_check_activation(struct mbk *k, const char *operation, enum mbk_activation f);

/* What goes into an operation's arguments here, because the backend doesn't look it up itself. */
const struct mbk_varying *mbk_varied(const struct mbk *k);

/* Calls the backend's entry, if it has one. */
#define MBK_CALL(k, entry, ...) \
    ((k)->backend->entry ? (k)->backend->entry((k), __VA_ARGS__) \
                         : mbk_fail((k), "%s is not supported on %s", #entry, (k)->backend->name))

#endif
