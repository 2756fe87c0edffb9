/* gpu.c: the device, its memory, and the table of entries.
 *
 * Scratch is an arena that operations take from and give back to within one call: the stream's order makes that safe. It grows in the first
 * steps and then stays; while graphs exist that hold its addresses, old blocks stay as well. Host copies go through pinned segments, so that a
 * write returns when its bytes have been copied aside.
 */
#include "gpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 256, LEAST_SCRATCH = 16 << 20, LT_WORKSPACE = 32 << 20 };

/* -- Errors. */

int gpu_check(struct mbk *k, const char *what, cudaError_t error)
{
    if (error == cudaSuccess)
        return 0;
    (void)cudaGetLastError(); /* an error of one call must not be found again by the next */
    return mbk_fail(k, "%s: %s (%s)", what, cudaGetErrorString(error), cudaGetErrorName(error));
}

int gpu_check_lt(struct mbk *k, const char *what, cublasStatus_t status)
{
    if (status == CUBLAS_STATUS_SUCCESS)
        return 0;
    return mbk_fail(k, "%s: cuBLASLt: %s", what, cublasLtGetStatusString(status));
}

int gpu_enter(struct mbk *k)
{
    return gpu_check(k, "cudaSetDevice", cudaSetDevice(gpu_of(k)->index));
}

/* -- Device memory that the backend itself holds. */

void *gpu_malloc(struct mbk *k, const char *what, size_t bytes)
{
    struct gpu *g = gpu_of(k);
    void *p = NULL;
    if (g->capturing) {
        mbk_fail(k, "%s: a recorded step needs %zu bytes more memory; run the step once before it is recorded", what, bytes);
        return NULL;
    }
    if (gpu_enter(k))
        return NULL;
    cudaError_t error = cudaMalloc(&p, bytes);
    if (error == cudaErrorMemoryAllocation) {
        size_t free_bytes = 0, total = 0;
        (void)cudaGetLastError();
        (void)cudaMemGetInfo(&free_bytes, &total);
        mbk_fail(k, "%s: no memory for %zu bytes on the GPU (%zu of %zu are free); a smaller batch takes less", what, bytes, free_bytes, total);
        return NULL;
    }
    if (gpu_check(k, what, error))
        return NULL;
    k->memory += bytes;
    return p;
}

void gpu_release(struct mbk *k, void *p, size_t bytes)
{
    if (!p)
        return;
    (void)cudaFree(p);
    k->memory -= bytes;
}

/* -- Scratch. */

/* A mark is the number of the block and how much of it is used. */
enum { MARK_SHIFT = 48 };

size_t gpu_scratch_mark(struct mbk *k)
{
    struct gpu_scratch *s = &gpu_of(k)->scratch;
    s->depth++;
    return s->count == 0 ? 0 : (size_t)(s->count - 1) << MARK_SHIFT | s->blocks[s->count - 1].used;
}

static int grow_scratch(struct mbk *k, const char *what, size_t bytes)
{
    struct gpu *g = gpu_of(k);
    struct gpu_scratch *s = &g->scratch;
    size_t size = LEAST_SCRATCH;
    if (g->capturing)
        return mbk_fail(k, "%s: a recorded step needs %zu bytes more scratch memory; run the step once before it is recorded", what, bytes);
    if (s->takes == 0 && g->captures == 0 && s->count > 0) { /* nothing points into the old blocks: one new one takes their place */
        if (gpu_enter(k) || gpu_check(k, what, cudaStreamSynchronize(g->stream)))
            return -1;
        for (int i = 0; i < s->count; i++) {
            size += s->blocks[i].size;
            gpu_release(k, s->blocks[i].base, s->blocks[i].size);
        }
        s->count = 0;
    } else if (s->count > 0) {
        size = 2 * s->blocks[s->count - 1].size;
    }
    if (s->count == (int)(sizeof s->blocks / sizeof *s->blocks))
        return mbk_fail(k, "%s: scratch memory lies in too many pieces; open the stream with more of it (mbk_options.scratch)", what);
    if (size < bytes)
        size = bytes;
    char *base = gpu_malloc(k, what, size);
    if (!base && size > bytes) /* the room for later was too much to ask */
        base = gpu_malloc(k, what, size = bytes);
    if (!base)
        return -1;
    s->blocks[s->count++] = (struct gpu_scratch_block){ .base = base, .size = size };
    return 0;
}

void *gpu_scratch(struct mbk *k, const char *what, size_t bytes)
{
    struct gpu_scratch *s = &gpu_of(k)->scratch;
    bytes = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (bytes == 0)
        bytes = ALIGNMENT;
    if ((s->count == 0 || s->blocks[s->count - 1].size - s->blocks[s->count - 1].used < bytes) && grow_scratch(k, what, bytes))
        return NULL;
    struct gpu_scratch_block *last = &s->blocks[s->count - 1];
    void *p = last->base + last->used;
    last->used += bytes;
    s->takes++;
    return p;
}

/* A block that came after the mark is used again from its start; those before it wait to be merged into one. */
void gpu_scratch_release(struct mbk *k, size_t mark)
{
    struct gpu_scratch *s = &gpu_of(k)->scratch;
    if (--s->depth == 0)
        s->takes = 0;
    if (s->count == 0)
        return;
    size_t block = mark >> MARK_SHIFT, used = mark & (((size_t)1 << MARK_SHIFT) - 1);
    s->blocks[s->count - 1].used = block == (size_t)(s->count - 1) ? used : 0;
}

static void close_scratch(struct mbk *k)
{
    struct gpu_scratch *s = &gpu_of(k)->scratch;
    for (int i = 0; i < s->count; i++)
        gpu_release(k, s->blocks[i].base, s->blocks[i].size);
    s->count = 0;
}

/* -- The device. */

static int available(int index)
{
    int count = 0, major = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess || index >= count ||
        cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index) != cudaSuccess) {
        (void)cudaGetLastError();
        return 0;
    }
    return major * 10 >= GPU_LEAST_ARCH;
}

static int count_gpus(void)
{
    int count = 0;
    if (cudaGetDeviceCount(&count) == cudaSuccess)
        return count;
    (void)cudaGetLastError();
    return 0;
}

static int open_staging(struct mbk *k, struct gpu_staging *s)
{
    if (gpu_check(k, "open", cudaMallocHost((void **)&s->memory, (size_t)GPU_SEGMENTS * GPU_SEGMENT)))
        return -1;
    for (int i = 0; i < GPU_SEGMENTS; i++)
        if (gpu_check(k, "open", cudaEventCreateWithFlags(&s->done[i], cudaEventDisableTiming)))
            return -1;
    return 0;
}

static void close_staging(struct gpu_staging *s)
{
    for (int i = 0; i < GPU_SEGMENTS; i++)
        if (s->done[i])
            (void)cudaEventDestroy(s->done[i]);
    if (s->memory)
        (void)cudaFreeHost(s->memory);
}

/* Moves on to the next segment when `s` is full, once its earlier copies are done. */
static int next_segment(struct mbk *k, struct gpu_staging *s)
{
    if (s->used < GPU_SEGMENT)
        return 0;
    if (gpu_check(k, "write", cudaEventRecord(s->done[s->current], gpu_of(k)->stream)))
        return -1;
    s->current = (s->current + 1) % GPU_SEGMENTS;
    s->used = 0;
    return gpu_check(k, "write", cudaEventSynchronize(s->done[s->current])); /* at once, if it was never recorded */
}

static int write_gpu(struct mbk *k, void *to, const void *from_host, size_t bytes)
{
    struct gpu *g = gpu_of(k);
    struct gpu_staging *s = &g->up;
    if (g->capturing)
        return mbk_fail(k, "write: host copies can't be recorded; write before mbk_capture_begin");
    if (gpu_enter(k))
        return -1;
    for (size_t done = 0; done < bytes;) {
        if (next_segment(k, s))
            return -1;
        size_t part = GPU_SEGMENT - s->used < bytes - done ? GPU_SEGMENT - s->used : bytes - done;
        char *pinned = s->memory + (size_t)s->current * GPU_SEGMENT + s->used;
        memcpy(pinned, (const char *)from_host + done, part);
        if (gpu_check(k, "write", cudaMemcpyAsync((char *)to + done, pinned, part, cudaMemcpyHostToDevice, g->stream)))
            return -1;
        s->used += (part + 63) / 64 * 64; /* a segment is a multiple of 64 */
        done += part;
    }
    return 0;
}

/* The device gets a copy of what has been set, in the stream's order. */
static int vary(struct mbk *k)
{
    return write_gpu(k, gpu_of(k)->varying, &k->varying, sizeof k->varying);
}

static void close_gpu(struct mbk *k)
{
    struct gpu *g = gpu_of(k);
    if (!g)
        return;
    if (cudaSetDevice(g->index) == cudaSuccess && g->stream)
        (void)cudaStreamSynchronize(g->stream);
    gpu_conv_close(k);
    gpu_gemm_close(k);
    if (g->lt)
        (void)cublasLtDestroy(g->lt);
    gpu_release(k, g->lt_workspace, g->lt_workspace_size);
    gpu_release(k, g->varying, sizeof *g->varying);
    close_scratch(k);
    close_staging(&g->up);
    close_staging(&g->down);
    if (g->stream)
        (void)cudaStreamDestroy(g->stream);
    free(g->allocations);
    free(g);
    k->state = NULL;
}

static int open_device(struct mbk *k, const struct mbk_options *options)
{
    struct gpu *g = gpu_of(k);
    int count = 0;
    if (gpu_check(k, "cuda", cudaGetDeviceCount(&count)))
        return -1;
    if (g->index >= count)
        return mbk_fail(k, "cuda:%d: there are %d GPUs, counted from 0", g->index, count);
    struct cudaDeviceProp p;
    if (gpu_enter(k) || gpu_check(k, "cuda", cudaGetDeviceProperties(&p, g->index)))
        return -1;
    g->arch = p.major * 10 + p.minor;
    g->processors = p.multiProcessorCount;
    if (g->arch < GPU_LEAST_ARCH || !gpu_has_code())
        return mbk_fail(k, "cuda:%d: %s has compute capability %d.%d, for which this build has no code (8.0 is the least; configure "
                        "--cuda-arch=%d%d)", g->index, p.name, p.major, p.minor, p.major, p.minor);
    snprintf(k->description, sizeof k->description, "%.48s, %d multiprocessors, %.0f GiB, compute capability %d.%d%s", p.name,
             g->processors, (double)p.totalGlobalMem / (1 << 30), p.major, p.minor, HAVE_CUDNN ? ", cuDNN" : "");
    if (gpu_check(k, "cuda", cudaStreamCreateWithFlags(&g->stream, cudaStreamNonBlocking)) || open_staging(k, &g->up) ||
        open_staging(k, &g->down) || gpu_check_lt(k, "cuda", cublasLtCreate(&g->lt)))
        return -1;
    g->lt_workspace = gpu_malloc(k, "cuda", LT_WORKSPACE);
    if (!g->lt_workspace)
        return -1;
    g->lt_workspace_size = LT_WORKSPACE;
    g->varying = gpu_malloc(k, "cuda", sizeof *g->varying);
    if (!g->varying || vary(k))
        return -1;
    if (options->scratch) {
        size_t mark = gpu_scratch_mark(k);
        void *taken = gpu_scratch(k, "cuda", options->scratch);
        gpu_scratch_release(k, mark);
        if (!taken)
            return -1;
    }
    return 0;
}

static int open_gpu(struct mbk *k, int index, const struct mbk_options *options)
{
    struct gpu *g = calloc(1, sizeof *g);
    if (!g)
        return mbk_fail(k, "cuda:%d: no memory for a stream", index);
    g->index = index;
    k->state = g;
    if (open_device(k, options) == 0)
        return 0;
    close_gpu(k);
    return -1;
}

static int supports(const struct mbk *k, enum mbk_type type)
{
    const struct gpu *g = k->state;
    switch (type) {
    case MBK_F32: case MBK_BF16: case MBK_I8: case MBK_I4: case MBK_Q8_0: case MBK_Q4_0: case MBK_Q4_K: return 1;
    case MBK_F8_E4M3: case MBK_F8_E5M2: return g->arch >= GPU_FP8_ARCH;
    default: return 0;
    }
}

static int sync_gpu(struct mbk *k)
{
    if (gpu_of(k)->capturing)
        return mbk_fail(k, "sync: work that is being recorded isn't done yet");
    return gpu_enter(k) || gpu_check(k, "sync", cudaStreamSynchronize(gpu_of(k)->stream)) ? -1 : 0;
}

/* -- Memory. How large each allocation is stands in a list on the host. */

static int remember(struct mbk *k, void *p, size_t bytes)
{
    struct gpu *g = gpu_of(k);
    if (g->allocation_count == g->allocation_room) {
        int room = g->allocation_room ? 2 * g->allocation_room : 64;
        struct gpu_allocation *grown = realloc(g->allocations, (size_t)room * sizeof *grown);
        if (!grown)
            return mbk_fail(k, "alloc: no memory for a list of %d allocations", room);
        g->allocations = grown;
        g->allocation_room = room;
    }
    g->allocations[g->allocation_count++] = (struct gpu_allocation){ p, bytes };
    return 0;
}

static void *alloc_gpu(struct mbk *k, size_t bytes)
{
    void *p = gpu_malloc(k, "alloc", bytes);
    if (!p)
        return NULL;
    if (gpu_check(k, "alloc", cudaMemsetAsync(p, 0, bytes, gpu_of(k)->stream)) || remember(k, p, bytes)) {
        gpu_release(k, p, bytes);
        return NULL;
    }
    return p;
}

static void free_gpu(struct mbk *k, void *p)
{
    struct gpu *g = gpu_of(k);
    for (int i = g->allocation_count - 1; i >= 0; i--) {
        if (g->allocations[i].p != p)
            continue;
        if (gpu_enter(k) == 0) {
            (void)cudaStreamSynchronize(g->stream); /* what is queued may still use it */
            gpu_release(k, p, g->allocations[i].bytes);
        }
        g->frees++;
        g->allocations[i] = g->allocations[--g->allocation_count];
        return;
    }
    mbk_fail(k, "free: %p is not memory of this stream", p);
}

/* Two segments take turns: one is copied on by the processor while the other arrives. */
static int read_gpu(struct mbk *k, void *to_host, const void *from, size_t bytes)
{
    struct gpu *g = gpu_of(k);
    struct gpu_staging *s = &g->down;
    if (g->capturing)
        return mbk_fail(k, "read: work that is being recorded has no results yet");
    if (gpu_enter(k))
        return -1;
    size_t parts = (bytes + GPU_SEGMENT - 1) / GPU_SEGMENT;
    for (size_t i = 0; i <= parts; i++) {
        if (i < parts) {
            size_t at = i * GPU_SEGMENT, part = bytes - at < GPU_SEGMENT ? bytes - at : GPU_SEGMENT;
            if (gpu_check(k, "read", cudaMemcpyAsync(s->memory + i % 2 * GPU_SEGMENT, (const char *)from + at, part, cudaMemcpyDeviceToHost,
                                                     g->stream)) ||
                gpu_check(k, "read", cudaEventRecord(s->done[i % 2], g->stream)))
                return -1;
        }
        if (i > 0) {
            size_t at = (i - 1) * GPU_SEGMENT, part = bytes - at < GPU_SEGMENT ? bytes - at : GPU_SEGMENT;
            if (gpu_check(k, "read", cudaEventSynchronize(s->done[(i - 1) % 2])))
                return -1;
            memcpy((char *)to_host + at, s->memory + (i - 1) % 2 * GPU_SEGMENT, part);
        }
    }
    return 0;
}

static int copy_gpu(struct mbk *k, void *to, const void *from, size_t bytes)
{
    if (gpu_enter(k))
        return -1;
    return gpu_check(k, "copy", cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, gpu_of(k)->stream));
}

static int zero_gpu(struct mbk *k, void *to, size_t bytes)
{
    if (gpu_enter(k))
        return -1;
    return gpu_check(k, "zero", cudaMemsetAsync(to, 0, bytes, gpu_of(k)->stream));
}

/* -- Recorded work. */

struct graph {
    cudaGraphExec_t ready;
    long frees;       /* when it was recorded */
};

static int capture_begin(struct mbk *k)
{
    struct gpu *g = gpu_of(k);
    if (g->capturing)
        return mbk_fail(k, "capture: one has begun already");
    if (gpu_enter(k) || gpu_check(k, "capture", cudaStreamBeginCapture(g->stream, cudaStreamCaptureModeThreadLocal)))
        return -1;
    g->capturing = 1;
    return 0;
}

static int capture_end(struct mbk *k, void **graph)
{
    struct gpu *g = gpu_of(k);
    cudaGraph_t recorded = NULL;
    cudaGraphExec_t ready = NULL;
    if (!g->capturing)
        return mbk_fail(k, "capture: none has begun");
    g->capturing = 0;
    if (gpu_enter(k) || gpu_check(k, "capture", cudaStreamEndCapture(g->stream, &recorded)))
        return -1;
    int failed = gpu_check(k, "capture", cudaGraphInstantiateWithFlags(&ready, recorded, 0));
    (void)cudaGraphDestroy(recorded);
    if (failed)
        return -1;
    struct graph *made = malloc(sizeof *made);
    if (!made) {
        (void)cudaGraphExecDestroy(ready);
        return mbk_fail(k, "capture: no memory for a graph");
    }
    *made = (struct graph){ ready, g->frees };
    g->captures++;
    *graph = made;
    return 0;
}

static int replay(struct mbk *k, void *graph)
{
    struct gpu *g = gpu_of(k);
    const struct graph *recorded = graph;
    if (g->capturing)
        return mbk_fail(k, "replay: a recording can't be part of another one");
    if (recorded->frees != g->frees)
        return 1;
    if (gpu_enter(k))
        return -1;
    return gpu_check(k, "replay", cudaGraphLaunch(recorded->ready, g->stream));
}

static void graph_free(struct mbk *k, void *graph)
{
    struct gpu *g = gpu_of(k);
    struct graph *recorded = graph;
    if (gpu_enter(k) == 0) {
        (void)cudaStreamSynchronize(g->stream); /* it may be running */
        (void)cudaGraphExecDestroy(recorded->ready);
    }
    free(recorded);
    g->captures--;
}

/* -- The table. */

#define GPU_ENTRY(name) .name = gpu_##name,

const struct mbk_backend *mbk_cuda_backend(void)
{
    static const struct mbk_backend table = {
        .version = MBK_BACKEND_VERSION, .size = sizeof table, .name = "cuda",
        .available = available, .open = open_gpu, .close = close_gpu, .supports = supports, .sync = sync_gpu,
        .alloc = alloc_gpu, .free = free_gpu, .write = write_gpu, .read = read_gpu, .copy = copy_gpu, .zero = zero_gpu,
        .capture_begin = capture_begin, .capture_end = capture_end, .replay = replay, .vary = vary, .graph_free = graph_free,
        .count = count_gpus,
        GPU_OPERATIONS(GPU_ENTRY)
    };
    return &table;
}
