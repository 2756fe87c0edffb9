/* safetensors.h: tensors in files, in Hugging Face's safetensors format (github.com/huggingface/safetensors, README "Format").
 *
 * 8 bytes little-endian length of the header, the header in JSON, then the data. Reading maps the file and believes nothing: sizes that
 * overflow, holes, overlaps, duplicate names, offsets that leave the file or leave some of it over are errors that name the tensor. Writing
 * is deterministic: tensors lie by width (widest first) and name, so that each is aligned to its own width; the header's keys are sorted
 * and it is padded with spaces to 8 bytes.
 */
#ifndef MBL_SAFETENSORS_H
#define MBL_SAFETENSORS_H

#include "files.h"
#include "json.h"
#include <mbuild/kernels.h>

#define MBL_TENSOR_RANK 8

enum mbl_dtype {
    MBL_BOOL = 1, MBL_U8, MBL_I8, MBL_I16, MBL_U16, MBL_F16, MBL_BF16, MBL_I32, MBL_U32, MBL_F32, MBL_F64, MBL_I64, MBL_U64,
    MBL_F8_E4M3, MBL_F8_E5M2
};
MBL_EXPORT const char *mbl_dtype_name(enum mbl_dtype t);      /* "F32" */
MBL_EXPORT enum mbl_dtype mbl_dtype_of(const char *name);     /* 0 if there is none */
MBL_EXPORT size_t mbl_dtype_width(enum mbl_dtype t);          /* bytes of an element */
MBL_EXPORT enum mbk_type mbl_dtype_kernel(enum mbl_dtype t);  /* 0 if the kernels have none */
MBL_EXPORT enum mbl_dtype mbl_dtype_from_kernel(enum mbk_type t); /* 0 for types that safetensors lacks */

struct mbl_tensor {
    const char *name;
    enum mbl_dtype type;
    int rank;                       /* 0 is a scalar */
    int64_t shape[MBL_TENSOR_RANK];
    const void *data; /* reading: in the file's mapping, perhaps not aligned in files of others; writing: may be NULL, see below */
    size_t bytes;                   /* reading: of the data; writing: not looked at, it follows from shape and type */
};
MBL_EXPORT int64_t mbl_tensor_count(const struct mbl_tensor *t); /* elements */

/* -- Reading */
struct mbl_safetensors {
    struct mbl_arena arena;
    struct mbl_map map;
    struct mbl_tensor *tensors;     /* sorted by name */
    size_t count;
    struct mbl_json *metadata;      /* a table of strings, perhaps empty */
};
MBL_EXPORT int mbl_safetensors_open(const char *path, struct mbl_safetensors *out, struct mbl_error *e);
/* The same on bytes in memory, which must outlive it. */
MBL_EXPORT int mbl_safetensors_parse(const void *data, size_t size, const char *name, struct mbl_safetensors *out, struct mbl_error *e);
MBL_EXPORT void mbl_safetensors_close(struct mbl_safetensors *s); /* all zero is fine */
MBL_EXPORT const struct mbl_tensor *mbl_safetensors_find(const struct mbl_safetensors *s, const char *name); /* NULL if absent */

/* Copies a tensor out as float32, of any type but F8: F16, BF16, F64 and integers are converted. out has mbl_tensor_count elements. */
MBL_EXPORT int mbl_tensor_floats(const struct mbl_tensor *t, float *out, struct mbl_error *e);

/* -- Writing. Tensors with `data`, at once, atomically. metadata: a table of strings or NULL. The tensors may come in any order. */
MBL_EXPORT int mbl_safetensors_save(const char *path, const struct mbl_tensor *tensors, size_t count, const struct mbl_json *metadata,
                                    struct mbl_error *e);

/* Streaming: all tensors are declared first (their data isn't looked at), then filled piece by piece, several in turn if wanted; `i` is the
 * index in the array given to create. commit fails if a tensor is not full; then, and after abandon, there is no file. */
struct mbl_safetensors_writer;
MBL_EXPORT int mbl_safetensors_create(const char *path, const struct mbl_tensor *tensors, size_t count, const struct mbl_json *metadata,
                                      struct mbl_safetensors_writer **out, struct mbl_error *e);
MBL_EXPORT int mbl_safetensors_append(struct mbl_safetensors_writer *w, size_t i, const void *data, size_t bytes, struct mbl_error *e);
MBL_EXPORT int mbl_safetensors_commit(struct mbl_safetensors_writer *w, struct mbl_error *e); /* frees w in any case */
MBL_EXPORT void mbl_safetensors_abandon(struct mbl_safetensors_writer *w);                    /* NULL is fine */

#endif
