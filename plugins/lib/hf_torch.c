/* hf_torch.c: PyTorch's own files (torch.save since 1.6), read without Python and without running what they hold; see hf.h.
 *
 * The file is a zip: NAME/data.pkl is a pickle (protocol 2) of a dict of tensors, NAME/data/KEY are their bytes. A pickle is a program for
 * a stack machine that may call anything by name; this machine knows the words for plain values, and of names just those that build
 * tensors (Python's pickletools.py describes the words; torch/serialization.py and torch/_utils.py what torch writes).
 */
#include "files.h"
#include "hf.h"

#include <archive.h>
#include <archive_entry.h>

#include <stdlib.h>
#include <string.h>

#define MOST_PICKLE (64u << 20)
#define MOST_VALUES (1u << 20)  /* on the stack, in the memo, or held by others */
#define MOST_STORAGES 65536

/* -- the zip */

struct member {
    const char *key;             /* behind NAME/data/ */
    void *bytes;
    size_t size;
};

struct reader {
    struct mbl_torch_file *out;
    const char *name;            /* of the file, for messages */
    struct mbl_buf pickle;
    bool big_endian;
    struct member *members;
    size_t member_count, member_cap;
    uint64_t left;               /* what may still come: torch doesn't compress, so no more than the file has */
};

static int read_member(struct reader *r, struct archive *a, const char *path, struct mbl_buf *out, size_t most, struct mbl_error *e) {
    const void *block;
    size_t n;
    la_int64_t at;
    for (;;) {
        int status = archive_read_data_block(a, &block, &n, &at);
        if (status == ARCHIVE_EOF) return 0;
        if (status != ARCHIVE_OK)
            return mbl_error_set(e, "%s: %.200s: %s", r->name, path, archive_error_string(a) ? archive_error_string(a) : "damaged");
        if (at != (la_int64_t)out->len) return mbl_error_set(e, "%s: %.200s has holes", r->name, path);
        if (n > r->left || out->len + n > most)
            return mbl_error_set(e, "%s: %.200s is larger than the file can hold; torch doesn't compress", r->name, path);
        r->left -= n;
        mbl_buf_add(out, block, n);
    }
}

static int take_member(struct reader *r, struct archive *a, const char *path, struct mbl_error *e) {
    const char *inner = strchr(path, '/');
    if (!inner) return 0;
    struct mbl_buf bytes = {0};
    if (!strcmp(inner, "/data.pkl")) {
        if (r->pickle.len) return mbl_error_set(e, "%s: it holds two pickles", r->name);
        return read_member(r, a, path, &r->pickle, MOST_PICKLE, e);
    }
    if (!strcmp(inner, "/byteorder")) {
        int status = read_member(r, a, path, &bytes, 16, e);
        r->big_endian = !status && !strncmp(mbl_buf_str(&bytes), "big", 3);
        mbl_buf_free(&bytes);
        return status;
    }
    if (strncmp(inner, "/data/", 6)) return 0;
    if (r->member_count >= MOST_STORAGES) return mbl_error_set(e, "%s: more than %d storages", r->name, MOST_STORAGES);
    if (read_member(r, a, path, &bytes, SIZE_MAX, e)) {
        mbl_buf_free(&bytes);
        return -1;
    }
    struct mbl_torch_file *f = r->out;
    f->blocks = mbl_grow(f->blocks, &f->block_cap, f->block_count + 1, sizeof *f->blocks);
    f->blocks[f->block_count++] = bytes.data;
    r->members = mbl_grow(r->members, &r->member_cap, r->member_count + 1, sizeof *r->members);
    r->members[r->member_count++] = (struct member){.key = mbl_arena_strdup(&f->arena, inner + 6), .bytes = bytes.data, .size = bytes.len};
    return 0;
}

static int read_zip(struct reader *r, const void *data, size_t size, struct mbl_error *e) {
    struct archive *a = archive_read_new();
    if (!a) return mbl_error_set(e, "%s: no memory", r->name);
    struct archive_entry *entry;
    int status = 0, got = ARCHIVE_EOF;
    archive_read_support_format_zip(a);
    if (archive_read_open_memory(a, data, size) != ARCHIVE_OK)
        status = mbl_error_set(e, "%s: no zip, which torch.save writes since PyTorch 1.6 (%s)", r->name, archive_error_string(a));
    while (!status && (got = archive_read_next_header(a, &entry)) == ARCHIVE_OK) {
        const char *path = archive_entry_pathname(entry);
        status = path ? take_member(r, a, path, e) : mbl_error_set(e, "%s: a member has no name", r->name);
    }
    if (!status && got != ARCHIVE_EOF)
        status = mbl_error_set(e, "%s: no whole zip, which torch.save writes since PyTorch 1.6 (%s)", r->name,
                               archive_error_string(a) ? archive_error_string(a) : "damaged");
    archive_read_free(a);
    if (!status && !r->pickle.len) status = mbl_error_set(e, "%s: NAME/data.pkl is missing: no file of torch.save", r->name);
    if (!status && r->big_endian) status = mbl_error_set(e, "%s: its numbers are big-endian; little-endian expected", r->name);
    return status;
}

/* -- the pickle's values */

enum kind { NONE, BOOLEAN, INTEGER, NUMBER, STRING, TUPLE, LIST, DICT, NAME, STORAGE, TENSOR, MARK };
static const char *const kind_names[] = {"None", "a bool", "an int", "a float", "a string", "a tuple", "a list", "a dict", "a name",
                                         "a storage", "a tensor", "a mark"};

/* The names that a pickle may use, each with what it stands for. */
enum named { ORDERED_DICT, REBUILD_TENSOR, REBUILD_PARAMETER, STORAGE_TYPE };
static const struct name {
    const char *module, *name;
    enum named what;
    enum mbl_dtype type;
} names[] = {{"collections", "OrderedDict", ORDERED_DICT, 0},
             {"torch._utils", "_rebuild_tensor_v2", REBUILD_TENSOR, 0},
             {"torch._utils", "_rebuild_parameter", REBUILD_PARAMETER, 0},
             {"torch", "FloatStorage", STORAGE_TYPE, MBL_F32},
             {"torch", "DoubleStorage", STORAGE_TYPE, MBL_F64},
             {"torch", "HalfStorage", STORAGE_TYPE, MBL_F16},
             {"torch", "BFloat16Storage", STORAGE_TYPE, MBL_BF16},
             {"torch", "LongStorage", STORAGE_TYPE, MBL_I64},
             {"torch", "IntStorage", STORAGE_TYPE, MBL_I32},
             {"torch", "ShortStorage", STORAGE_TYPE, MBL_I16},
             {"torch", "CharStorage", STORAGE_TYPE, MBL_I8},
             {"torch", "ByteStorage", STORAGE_TYPE, MBL_U8},
             {"torch", "BoolStorage", STORAGE_TYPE, MBL_BOOL}};

struct value {
    enum kind kind;
    int64_t integer;             /* BOOLEAN, INTEGER; STORAGE: how many elements */
    const char *string;
    const struct name *name;     /* NAME; STORAGE: of its type */
    struct value **items;        /* TUPLE, LIST; DICT: keys and values in turn */
    size_t count, cap;
    const struct member *member; /* STORAGE */
    struct mbl_tensor tensor;
};

struct machine {
    struct reader *r;
    struct mbl_arena *arena;
    const unsigned char *text;
    size_t size, at, start;      /* start: of the word that runs */
    struct value **stack, **memo;
    size_t depth, stack_cap, memo_count, memo_cap, made;
    struct mbl_error *e;
};

static int bad(struct machine *v, const char *what) {
    return mbl_error_set(v->e, "%s: data.pkl, offset %zu: %s", v->r->name, v->start, what);
}

static struct value *make(struct machine *v, enum kind kind) {
    struct value *x = mbl_arena_alloc(v->arena, sizeof *x);
    x->kind = kind;
    return x;
}

static int push(struct machine *v, struct value *x) {
    if (v->depth >= MOST_VALUES || ++v->made > MOST_VALUES) return bad(v, "too many values");
    v->stack = mbl_grow(v->stack, &v->stack_cap, v->depth + 1, sizeof *v->stack);
    v->stack[v->depth++] = x;
    return 0;
}

static struct value *pop(struct machine *v) {
    if (!v->depth) {
        bad(v, "the stack is empty");
        return NULL;
    }
    return v->stack[--v->depth];
}

static struct value *top(struct machine *v) {
    if (v->depth) return v->stack[v->depth - 1];
    bad(v, "the stack is empty");
    return NULL;
}

static int append(struct machine *v, struct value *to, struct value *x) {
    if (x->kind == MARK) return bad(v, "a mark among values");
    if (++v->made > MOST_VALUES) return bad(v, "too many values");
    if (to->count == to->cap) {
        size_t cap = to->cap ? to->cap * 2 : 4;
        struct value **more = mbl_arena_alloc(v->arena, cap * sizeof *more);
        if (to->count) memcpy(more, to->items, to->count * sizeof *more);
        to->items = more;
        to->cap = cap;
    }
    to->items[to->count++] = x;
    return 0;
}

/* Moves what lies above the last mark into `to` and takes the mark away. */
static int gather(struct machine *v, struct value *to) {
    size_t mark = v->depth;
    while (mark && v->stack[mark - 1]->kind != MARK) mark--;
    if (!mark) return bad(v, "there is no mark");
    for (size_t i = mark; i < v->depth; i++)
        if (append(v, to, v->stack[i])) return -1;
    v->depth = mark - 1;
    return 0;
}

/* -- reading the program's own bytes */

static const unsigned char *take(struct machine *v, uint64_t n) {
    if (n > v->size - v->at) {
        bad(v, "the pickle ends in the middle of a word");
        return NULL;
    }
    const unsigned char *p = v->text + v->at;
    v->at += (size_t)n;
    return p;
}

static int take_number(struct machine *v, int bytes, uint64_t *out) {
    const unsigned char *p = take(v, (uint64_t)bytes);
    *out = 0;
    for (int i = 0; p && i < bytes; i++) *out |= (uint64_t)p[i] << (8 * i);
    return p ? 0 : -1;
}

static int take_string(struct machine *v, int length_bytes, const char **out) {
    uint64_t n;
    if (take_number(v, length_bytes, &n)) return -1;
    const unsigned char *p = take(v, n);
    if (!p) return -1;
    if (memchr(p, 0, (size_t)n)) return bad(v, "a string with a NUL in it");
    *out = mbl_arena_strndup(v->arena, (const char *)p, (size_t)n);
    return 0;
}

static int take_line(struct machine *v, const char **out) {
    const unsigned char *p = v->text + v->at, *end = memchr(p, '\n', v->size - v->at);
    if (!end) return bad(v, "the pickle ends in the middle of a word");
    *out = mbl_arena_strndup(v->arena, (const char *)p, (size_t)(end - p));
    v->at += (size_t)(end - p) + 1;
    return 0;
}

/* -- words that do something */

static int push_integer(struct machine *v, enum kind kind, int64_t integer) {
    struct value *x = make(v, kind);
    x->integer = integer;
    return push(v, x);
}

static int push_string(struct machine *v, int length_bytes) {
    struct value *x = make(v, STRING);
    return take_string(v, length_bytes, &x->string) ? -1 : push(v, x);
}

static int push_long(struct machine *v) {
    uint64_t n, bits = 0;
    if (take_number(v, 1, &n)) return -1;
    if (n > 8) return bad(v, "a whole number of more than 64 bits");
    const unsigned char *p = take(v, n);
    if (!p) return -1;
    for (uint64_t i = 0; i < n; i++) bits |= (uint64_t)p[i] << (8 * i);
    if (n && n < 8 && p[n - 1] & 0x80) bits |= UINT64_MAX << (8 * n);
    int64_t integer;
    memcpy(&integer, &bits, sizeof integer);
    return push_integer(v, INTEGER, integer);
}

static int push_name(struct machine *v, const char *module, const char *name) {
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(names[i].module, module) || strcmp(names[i].name, name)) continue;
        struct value *x = make(v, NAME);
        x->name = &names[i];
        return push(v, x);
    }
    return mbl_error_set(v->e,
                         "%s: data.pkl, offset %zu: it asks for %.100s.%.100s, which no file of weights needs; convert it to safetensors "
                         "where you trust it",
                         v->r->name, v->start, module, name);
}

static int remember(struct machine *v, uint64_t i) {
    struct value *x = top(v);
    if (!x) return -1;
    if (i > v->memo_count) {
        if (i > MOST_VALUES) return bad(v, "a place in the memo that is too far");
    }
    if (i >= v->memo_cap) {
        size_t had = v->memo_cap;
        v->memo = mbl_grow(v->memo, &v->memo_cap, (size_t)i + 1, sizeof *v->memo);
        memset(v->memo + had, 0, (v->memo_cap - had) * sizeof *v->memo);
    }
    v->memo[i] = x;
    if (i >= v->memo_count) v->memo_count = (size_t)i + 1;
    return 0;
}

static int recall(struct machine *v, uint64_t i) {
    if (i >= v->memo_count || !v->memo[i]) return bad(v, "a place in the memo that holds nothing");
    return push(v, v->memo[i]);
}

static int tuple_of(struct machine *v, size_t n) {
    struct value *x = make(v, TUPLE);
    if (v->depth < n) return bad(v, "the stack is empty");
    for (size_t i = 0; i < n; i++)
        if (append(v, x, v->stack[v->depth - n + i])) return -1;
    v->depth -= n;
    return push(v, x);
}

/* A persistent id: ('storage', type, key, where, elements). */
static int push_storage(struct machine *v) {
    struct value *id = pop(v);
    if (!id) return -1;
    struct value **p = id->items;
    if (id->kind != TUPLE || id->count != 5 || p[0]->kind != STRING || strcmp(p[0]->string, "storage") || p[1]->kind != NAME ||
        p[1]->name->what != STORAGE_TYPE || p[2]->kind != STRING || p[4]->kind != INTEGER)
        return bad(v, "a reference to a storage, ('storage', type, key, place, elements), expected");
    struct value *x = make(v, STORAGE);
    x->name = p[1]->name;
    x->integer = p[4]->integer;
    for (size_t i = 0; i < v->r->member_count; i++)
        if (!strcmp(v->r->members[i].key, p[2]->string)) x->member = &v->r->members[i];
    if (!x->member) return bad(v, "a storage whose bytes are not in the file");
    if (x->integer < 0 || (uint64_t)x->integer > x->member->size / mbl_dtype_width(x->name->type))
        return bad(v, "a storage with more elements than bytes");
    return push(v, x);
}

static bool whole_numbers(const struct value *t) {
    bool fine = t->kind == TUPLE && t->count <= MBL_TENSOR_RANK;
    for (size_t i = 0; fine && i < t->count; i++) fine = t->items[i]->kind == INTEGER && t->items[i]->integer >= 0;
    return fine;
}

/* Elements that don't lie row by row are brought in order. */
static int copy_strided(struct machine *v, struct mbl_tensor *t, const char *from, const int64_t *strides) {
    size_t width = mbl_dtype_width(t->type);
    void *block;
    if (mbl_try_alloc(&block, (uint64_t)mbl_tensor_count(t), width, "a transposed tensor", v->e)) return -1;
    struct mbl_torch_file *f = v->r->out;
    f->blocks = mbl_grow(f->blocks, &f->block_cap, f->block_count + 1, sizeof *f->blocks);
    f->blocks[f->block_count++] = block;
    int64_t index[MBL_TENSOR_RANK] = {0};
    char *to = block;
    for (int64_t n = mbl_tensor_count(t); n > 0; n--, to += width) {
        int64_t at = 0;
        for (int d = 0; d < t->rank; d++) at += index[d] * strides[d];
        memcpy(to, from + (size_t)at * width, width);
        for (int d = t->rank - 1; d >= 0 && ++index[d] == t->shape[d]; d--) index[d] = 0;
    }
    t->data = block;
    return 0;
}

/* _rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks[, metadata]) */
static int rebuild_tensor(struct machine *v, const struct value *args) {
    struct value **p = args->items;
    if (args->kind != TUPLE || args->count < 4 || p[0]->kind != STORAGE || p[1]->kind != INTEGER || p[1]->integer < 0 ||
        !whole_numbers(p[2]) || !whole_numbers(p[3]) || p[2]->count != p[3]->count)
        return bad(v, "a tensor of a storage, an offset, a shape and strides expected");
    struct value *x = make(v, TENSOR);
    struct mbl_tensor *t = &x->tensor;
    *t = (struct mbl_tensor){.type = p[0]->name->type, .rank = (int)p[2]->count};
    const int64_t room = p[0]->integer, offset = p[1]->integer;
    int64_t count = 1, last = offset, strides[MBL_TENSOR_RANK];
    bool in_rows = true, outside = offset > room;
    for (int d = t->rank - 1; d >= 0; d--) {
        t->shape[d] = p[2]->items[d]->integer;
        strides[d] = p[3]->items[d]->integer;
        in_rows &= t->shape[d] <= 1 || strides[d] == count;
        outside |= __builtin_mul_overflow(count, t->shape[d], &count);
    }
    int64_t reach;
    for (int d = 0; d < t->rank && count > 0; d++)
        outside |= __builtin_mul_overflow(t->shape[d] - 1, strides[d], &reach) || __builtin_add_overflow(last, reach, &last);
    if (outside || count > room || (count > 0 && last >= room)) return bad(v, "a tensor that leaves its storage");
    size_t width = mbl_dtype_width(t->type);
    static const char nothing[1];
    const char *from = count ? (const char *)p[0]->member->bytes + (size_t)offset * width : nothing;
    t->data = from;
    t->bytes = (size_t)count * width;
    if (!in_rows && count && copy_strided(v, t, from, strides)) return -1;
    return push(v, x);
}

static int call(struct machine *v) {
    struct value *args = pop(v), *name = args ? pop(v) : NULL;
    if (!name) return -1;
    if (name->kind != NAME) return bad(v, "a call of what has no name");
    switch (name->name->what) {
    case ORDERED_DICT:
        if (args->kind != TUPLE || args->count) return bad(v, "an OrderedDict that is empty at first expected");
        return push(v, make(v, DICT));
    case REBUILD_TENSOR: return rebuild_tensor(v, args);
    case REBUILD_PARAMETER:
        if (args->kind != TUPLE || !args->count || args->items[0]->kind != TENSOR) return bad(v, "a parameter that is a tensor expected");
        return push(v, args->items[0]);
    default: return bad(v, "a call of a storage's type");
    }
}

static int set_items(struct machine *v, bool one) {
    struct value *more = make(v, TUPLE), *to;
    if (one) {
        struct value *value = pop(v), *key = value ? pop(v) : NULL;
        if (!key || append(v, more, key) || append(v, more, value)) return -1;
    } else if (gather(v, more)) {
        return -1;
    }
    if (!(to = top(v))) return -1;
    if (to->kind != DICT || more->count % 2) return bad(v, "keys and values for a dict expected");
    for (size_t i = 0; i < more->count; i++)
        if (append(v, to, more->items[i])) return -1;
    return 0;
}

static int append_items(struct machine *v, bool one) {
    struct value *more = make(v, TUPLE), *to;
    if (one) {
        struct value *value = pop(v);
        if (!value || append(v, more, value)) return -1;
    } else if (gather(v, more)) {
        return -1;
    }
    if (!(to = top(v))) return -1;
    if (to->kind != LIST) return bad(v, "elements for a list expected");
    for (size_t i = 0; i < more->count; i++)
        if (append(v, to, more->items[i])) return -1;
    return 0;
}

/* The state of an OrderedDict is what torch keeps beside (_metadata): read and dropped. */
static int build(struct machine *v) {
    struct value *state = pop(v), *to = state ? top(v) : NULL;
    if (!to) return -1;
    return to->kind == DICT ? 0 : bad(v, "a state for what isn't a dict");
}

/* One word; 1 at the end. */
static int step(struct machine *v) {
    uint64_t n;
    const char *module, *name;
    v->start = v->at;
    const unsigned char *word = take(v, 1);
    if (!word) return -1;
    switch (*word) {
    case 0x80: return take(v, 1) ? 0 : -1;                       /* PROTO */
    case 0x95: return take(v, 8) ? 0 : -1;                       /* FRAME */
    case '.': return 1;                                          /* STOP */
    case '(': return push(v, make(v, MARK));                     /* MARK */
    case '0': return pop(v) ? 0 : -1;                            /* POP */
    case 'N': return push(v, make(v, NONE));                     /* NONE */
    case 0x88: return push_integer(v, BOOLEAN, 1);               /* NEWTRUE */
    case 0x89: return push_integer(v, BOOLEAN, 0);               /* NEWFALSE */
    case 'K': return take_number(v, 1, &n) ? -1 : push_integer(v, INTEGER, (int64_t)n); /* BININT1 */
    case 'M': return take_number(v, 2, &n) ? -1 : push_integer(v, INTEGER, (int64_t)n); /* BININT2 */
    case 'J': return take_number(v, 4, &n) ? -1 : push_integer(v, INTEGER, (int32_t)(uint32_t)n); /* BININT */
    case 0x8a: return push_long(v);                              /* LONG1 */
    case 'G': return take(v, 8) ? push(v, make(v, NUMBER)) : -1; /* BINFLOAT: nothing needs its value */
    case 'X': return push_string(v, 4);                          /* BINUNICODE */
    case 0x8c: return push_string(v, 1);                         /* SHORT_BINUNICODE */
    case ']': return push(v, make(v, LIST));                     /* EMPTY_LIST */
    case '}': return push(v, make(v, DICT));                     /* EMPTY_DICT */
    case ')': return push(v, make(v, TUPLE));                    /* EMPTY_TUPLE */
    case 0x85: case 0x86: case 0x87: return tuple_of(v, (size_t)*word - 0x84); /* TUPLE1, 2, 3 */
    case 't': {                                                  /* TUPLE */
        struct value *x = make(v, TUPLE);
        return gather(v, x) ? -1 : push(v, x);
    }
    case 'q': return take_number(v, 1, &n) ? -1 : remember(v, n); /* BINPUT */
    case 'r': return take_number(v, 4, &n) ? -1 : remember(v, n); /* LONG_BINPUT */
    case 0x94: return remember(v, v->memo_count);                /* MEMOIZE */
    case 'h': return take_number(v, 1, &n) ? -1 : recall(v, n);  /* BINGET */
    case 'j': return take_number(v, 4, &n) ? -1 : recall(v, n);  /* LONG_BINGET */
    case 'c': return take_line(v, &module) || take_line(v, &name) ? -1 : push_name(v, module, name); /* GLOBAL */
    case 0x93: {                                                 /* STACK_GLOBAL */
        struct value *b = pop(v), *a = b ? pop(v) : NULL;
        if (!a) return -1;
        if (a->kind != STRING || b->kind != STRING) return bad(v, "a name of two strings expected");
        return push_name(v, a->string, b->string);
    }
    case 'Q': return push_storage(v);                            /* BINPERSID */
    case 'R': return call(v);                                    /* REDUCE */
    case 'b': return build(v);                                   /* BUILD */
    case 's': return set_items(v, true);                         /* SETITEM */
    case 'u': return set_items(v, false);                        /* SETITEMS */
    case 'a': return append_items(v, true);                      /* APPEND */
    case 'e': return append_items(v, false);                     /* APPENDS */
    default:
        return mbl_error_set(v->e, "%s: data.pkl, offset %zu: the word 0x%02x is none that a file of weights needs", v->r->name, v->start,
                             *word);
    }
}

static int keep_tensors(struct machine *v, const struct value *root) {
    struct mbl_torch_file *f = v->r->out;
    if (root->kind != DICT)
        return mbl_error_set(v->e, "%s: data.pkl holds %s; a dict of tensors expected", v->r->name, kind_names[root->kind]);
    for (size_t i = 0; i < root->count; i += 2) {
        const struct value *key = root->items[i], *value = root->items[i + 1];
        if (key->kind != STRING)
            return mbl_error_set(v->e, "%s: data.pkl: a key is %s; a string expected", v->r->name, kind_names[key->kind]);
        if (value->kind != TENSOR)
            return mbl_error_set(v->e, "%s: data.pkl: %.200s is %s; a tensor expected", v->r->name, key->string, kind_names[value->kind]);
        f->tensors = mbl_grow(f->tensors, &f->cap, f->count + 1, sizeof *f->tensors);
        f->tensors[f->count] = value->tensor;
        f->tensors[f->count++].name = key->string;
    }
    return 0;
}

static int run(struct reader *r, struct mbl_error *e) {
    struct machine v = {.r = r, .arena = &r->out->arena, .text = (const unsigned char *)r->pickle.data, .size = r->pickle.len, .e = e};
    int status;
    while (!(status = step(&v))) {}
    if (status > 0) {
        const struct value *root = pop(&v);
        status = root ? keep_tensors(&v, root) : -1;
    }
    free(v.stack);
    free(v.memo);
    return status;
}

/* -- the file */

int mbl_torch_parse(const void *data, size_t size, const char *name, struct mbl_torch_file *out, struct mbl_error *e) {
    *out = (struct mbl_torch_file){0};
    struct reader r = {.out = out, .name = name, .left = size};
    int status = read_zip(&r, data, size, e) || run(&r, e) ? -1 : 0;
    mbl_buf_free(&r.pickle);
    free(r.members);
    if (status) mbl_torch_close(out);
    return status;
}

int mbl_torch_open(const char *path, struct mbl_torch_file *out, struct mbl_error *e) {
    struct mbl_map map;
    *out = (struct mbl_torch_file){0};
    if (mbl_map_open(path, &map, e)) return -1;
    int status = mbl_torch_parse(map.data, map.size, path, out, e);
    mbl_map_close(&map);
    return status;
}

void mbl_torch_close(struct mbl_torch_file *f) {
    for (size_t i = 0; i < f->block_count; i++) free(f->blocks[i]);
    free(f->blocks);
    free(f->tensors);
    mbl_arena_free(&f->arena);
    *f = (struct mbl_torch_file){0};
}
