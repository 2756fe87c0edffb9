/* mbk.c: streams, memory, and where backends come from.
 *
 * The CPU's is part of this library. CUDA's is a library of its own beside this one, loaded when it is first asked for, so that all the
 * rest runs where no CUDA is installed. Must not know what any operation does.
 */
#include "mbk_check.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern const struct mbk_backend mbk_cpu_backend;

static const struct mbk_varying nothing_varied = { .scale = 1, .lr = 1 };

/* -- Backends. */

static pthread_once_t cuda_once = PTHREAD_ONCE_INIT;
static const struct mbk_backend *cuda_backend;
static char cuda_message[512];

/* A name without a slash is looked for in our RPATH, which is our own folder, and where the system keeps libraries. */
static void load_cuda(void)
{
    static const char name[] = "libmbkernels-cuda.so";
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        snprintf(cuda_message, sizeof cuda_message, "no CUDA backend: %s", dlerror());
        return;
    }
    const struct mbk_backend *(*get)(void);
    void *symbol = dlsym(library, "mbk_cuda_backend");
    memcpy(&get, &symbol, sizeof get);
    const struct mbk_backend *found = symbol ? get() : NULL;
    if (!found)
        snprintf(cuda_message, sizeof cuda_message, "%s exports no mbk_cuda_backend: it is not mbuild's", name);
    else if (found->version != MBK_BACKEND_VERSION || found->size != sizeof *found)
        snprintf(cuda_message, sizeof cuda_message, "%s is of another version (%d, not %d); build and install both together", name,
                 found->version, MBK_BACKEND_VERSION);
    else
        cuda_backend = found;
}

static const struct mbk_backend *find_backend(const char *device, int *index, char *message, size_t message_size)
{
    size_t length = strcspn(device, ":");
    *index = 0;
    if (device[length]) {
        char *end;
        long number = strtol(device + length + 1, &end, 10);
        if (end == device + length + 1 || *end || number < 0 || number > 1023) {
            snprintf(message, message_size, "the device \"%s\" does not end in a number as in cuda:1", device);
            return NULL;
        }
        *index = (int)number;
    }
    if (length == 3 && memcmp(device, "cpu", 3) == 0)
        return &mbk_cpu_backend;
    if (length == 4 && memcmp(device, "cuda", 4) == 0) {
        pthread_once(&cuda_once, load_cuda);
        if (!cuda_backend)
            snprintf(message, message_size, "%s", cuda_message);
        return cuda_backend;
    }
    snprintf(message, message_size, "there is no device \"%s\"; there are cpu, cuda and cuda:N", device);
    return NULL;
}

int mbk_available(const char *device)
{
    char message[8];
    int index;
    const struct mbk_backend *backend = find_backend(device, &index, message, sizeof message);
    return backend && backend->available(index);
}

int mbk_device_count(const char *kind)
{
    char message[8];
    int index;
    const struct mbk_backend *backend = find_backend(kind, &index, message, sizeof message);
    return !backend ? 0 : backend->count ? backend->count() : 1;
}

/* -- Streams. */

int mbk_open(const char *device, const struct mbk_options *options, struct mbk **out, char *message, size_t message_size)
{
    static const struct mbk_options none;
    int index;
    *out = NULL;
    const struct mbk_backend *backend = find_backend(device, &index, message, message_size);
    if (!backend)
        return -1;
    struct mbk *k = calloc(1, sizeof *k);
    if (!k) {
        snprintf(message, message_size, "no memory for a stream on %s", device);
        return -1;
    }
    k->backend = backend;
    k->varying = nothing_varied;
    if (backend->open(k, index, options ? options : &none)) {
        snprintf(message, message_size, "%s", k->error);
        free(k);
        return -1;
    }
    *out = k;
    return 0;
}

void mbk_close(struct mbk *k)
{
    if (!k)
        return;
    k->backend->close(k);
    free(k);
}

const char *mbk_error(const struct mbk *k)
{
    return k->error;
}

const char *mbk_device(const struct mbk *k)
{
    return k->backend->name;
}

const char *mbk_description(const struct mbk *k)
{
    return k->description;
}

int mbk_supports(const struct mbk *k, enum mbk_type type)
{
    return k->backend->supports(k, type);
}

int mbk_sync(struct mbk *k)
{
    return k->backend->sync(k);
}

int mbk_fail(struct mbk *k, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(k->error, sizeof k->error, format, args);
    va_end(args);
    return -1;
}

int mbk_unsupported(struct mbk *k, const char *operation, enum mbk_type type)
{
    return mbk_fail(k, "%s: %s is not supported on %s", operation, mbk_type_name(type), k->backend->name);
}

/* -- Memory. */

void *mbk_alloc(struct mbk *k, size_t bytes)
{
    return k->backend->alloc(k, bytes ? bytes : 1);
}

void mbk_free(struct mbk *k, void *p)
{
    if (p)
        k->backend->free(k, p);
}

int mbk_write(struct mbk *k, void *to, const void *from_host, size_t bytes)
{
    return bytes ? k->backend->write(k, to, from_host, bytes) : 0;
}

int mbk_read(struct mbk *k, void *to_host, const void *from, size_t bytes)
{
    return bytes ? k->backend->read(k, to_host, from, bytes) : k->backend->sync(k);
}

int mbk_copy(struct mbk *k, const struct mbk_tensor *from, const struct mbk_tensor *to)
{
    if (mbk_check(k, "copy", "from:*[...] to:*[R]", from, to))
        return -1;
    if (from->type != to->type)
        return mbk_mismatch(k, "copy", "from", from, "to", to, "the types must be the same (mbk_cast converts)");
    size_t bytes = mbk_bytes(to);
    if (mbk_bytes(from) != bytes)
        return mbk_mismatch(k, "copy", "from", from, "to", to, "the rows are not of the same whole blocks");
    return bytes ? k->backend->copy(k, to->data, from->data, bytes) : 0;
}

int mbk_zero(struct mbk *k, const struct mbk_tensor *t)
{
    if (mbk_check(k, "zero", "t:*[...]", t))
        return -1;
    return mbk_bytes(t) ? k->backend->zero(k, t->data, mbk_bytes(t)) : 0;
}

size_t mbk_memory_used(const struct mbk *k)
{
    return k->memory;
}

/* -- Recorded work. */

int mbk_records(const struct mbk *k)
{
    const char *wish = getenv("MBK_GRAPHS");
    return k->backend->capture_begin && !(wish && strcmp(wish, "0") == 0);
}

int mbk_capture_begin(struct mbk *k)
{
    return mbk_records(k) ? k->backend->capture_begin(k) : 1;
}

int mbk_capture_end(struct mbk *k, void **graph)
{
    *graph = NULL;
    return k->backend->capture_end ? k->backend->capture_end(k, graph) : mbk_fail(k, "capture: %s records no calls", k->backend->name);
}

int mbk_replay(struct mbk *k, void *graph)
{
    return k->backend->replay ? k->backend->replay(k, graph) : mbk_fail(k, "replay: %s records no calls", k->backend->name);
}

void mbk_graph_free(struct mbk *k, void *graph)
{
    if (graph && k->backend->graph_free)
        k->backend->graph_free(k, graph);
}

int mbk_vary(struct mbk *k, const struct mbk_varying *v)
{
    const struct mbk_varying before = k->varying;
    k->varying = v ? *v : nothing_varied;
    if (!k->backend->vary || k->backend->vary(k) == 0)
        return 0;
    k->varying = before;
    return -1;
}

const struct mbk_varying *mbk_varied(const struct mbk *k)
{
    return k->backend->vary ? &nothing_varied : &k->varying;
}
