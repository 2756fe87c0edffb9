/* mbk_check.c: reads the patterns of mbk_check.h and holds tensors against them. */
#include "mbk_check.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MOST_TENSORS = 12, MOST_NAME = 24 };

/* One word of the pattern with its tensor. */
struct word {
    char name[MOST_NAME];
    const char *type;  /* the text from the type on */
    size_t type_len;
    const char *shape; /* what stands between the brackets */
    size_t shape_len;
    int optional;
    const struct mbk_tensor *tensor;
};

struct check {
    struct mbk *k;
    const char *operation;
    struct word words[MOST_TENSORS];
    int count;
    int64_t size[128];      /* of each letter */
    int size_from[128];     /* which word said so, plus one */
    int leading_from;       /* which word has given `...`, plus one */
    int float_from;         /* which word has given `f`, plus one */
};

const char *mbk_shape_text(const struct mbk_tensor *t, char text[MBK_SHAPE_TEXT])
{
    size_t used = (size_t)snprintf(text, MBK_SHAPE_TEXT, "%s [", mbk_type_name(t->type));
    int rank = t->rank < 0 ? 0 : t->rank > MBK_MAX_RANK ? MBK_MAX_RANK : t->rank;
    for (int i = 0; i < rank && used < MBK_SHAPE_TEXT - 1; i++)
        used += (size_t)snprintf(text + used, MBK_SHAPE_TEXT - used, "%s%lld", i ? ", " : "", (long long)t->shape[i]);
    if (used < MBK_SHAPE_TEXT - 1)
        snprintf(text + used, MBK_SHAPE_TEXT - used, "]");
    return text;
}

int mbk_mismatch(struct mbk *k, const char *operation, const char *a_name, const struct mbk_tensor *a, const char *b_name,
                 const struct mbk_tensor *b, const char *why)
{
    char a_text[MBK_SHAPE_TEXT], b_text[MBK_SHAPE_TEXT];
    return mbk_fail(k, "%s: %s is %s and %s is %s: %s", operation, a_name, mbk_shape_text(a, a_text), b_name, mbk_shape_text(b, b_text),
                    why);
}

int mbk_check_activation(struct mbk *k, const char *operation, enum mbk_activation f)
{
    return (unsigned)f <= MBK_SIGMOID ? 0 : mbk_fail(k, "%s: there is no activation %d", operation, (int)f);
}

static void read_pattern(struct check *c, const char *pattern, va_list tensors)
{
    for (const char *p = pattern; *p;) {
        struct word *w = &c->words[c->count++];
        size_t name_len = strcspn(p, "?:");
        snprintf(w->name, sizeof w->name, "%.*s", (int)name_len, p);
        p += name_len;
        w->optional = *p == '?';
        p += w->optional + 1;
        w->type = p;
        w->type_len = strcspn(p, "[");
        w->shape = p + w->type_len + 1;
        w->shape_len = strcspn(w->shape, "]");
        p = w->shape + w->shape_len + 1;
        p += *p == ' ';
        w->tensor = va_arg(tensors, const struct mbk_tensor *);
    }
}

/* What is wrong with a tensor taken by itself. */
static int check_tensor(const struct check *c, const struct word *w)
{
    const struct mbk_tensor *t = w->tensor;
    if (t->rank < 0 || t->rank > MBK_MAX_RANK)
        return mbk_fail(c->k, "%s: %s has rank %d; at most %d are possible", c->operation, w->name, t->rank, MBK_MAX_RANK);
    if (!*mbk_type_name(t->type))
        return mbk_fail(c->k, "%s: %s has the type %d, which there is not", c->operation, w->name, (int)t->type);
    char text[MBK_SHAPE_TEXT];
    int64_t count = mbk_count(t);
    if (count < 0)
        return mbk_fail(c->k, "%s: %s is %s, which no memory holds", c->operation, w->name, mbk_shape_text(t, text));
    if (count > 0 && !t->data)
        return mbk_fail(c->k, "%s: %s, %s, has no data", c->operation, w->name, mbk_shape_text(t, text));
    size_t align = mbk_alignment(t->type);
    if ((uintptr_t)t->data % align)
        return mbk_fail(c->k, "%s: %s, %s, does not lie at a multiple of %zu bytes, as its type wants", c->operation, w->name,
                        mbk_shape_text(t, text), align);
    return 0;
}

static int word_fails(const struct check *c, const struct word *w, const struct word *other, const char *why)
{
    char want[240], text[MBK_SHAPE_TEXT];
    if (other && other != w) {
        snprintf(want, sizeof want, "%s (%s [%.*s], %s [%.*s])", why, other->name, (int)other->shape_len, other->shape, w->name,
                 (int)w->shape_len, w->shape);
        return mbk_mismatch(c->k, c->operation, other->name, other->tensor, w->name, w->tensor, want);
    }
    return mbk_fail(c->k, "%s: %s is %s, not [%.*s]: %s", c->operation, w->name, mbk_shape_text(w->tensor, text), (int)w->shape_len,
                    w->shape,
                    why);
}

static int check_type(struct check *c, int index)
{
    struct word *w = &c->words[index];
    enum mbk_type type = w->tensor->type;
    char text[MBK_SHAPE_TEXT];
    if (*w->type == '*')
        return 0;
    int is_float = type == MBK_F32 || type == MBK_BF16;
    if (w->type_len == 1 && (*w->type == 'f' || *w->type == 'F')) {
        if (!is_float)
            return mbk_fail(c->k, "%s: %s is %s, not F32 or BF16", c->operation, w->name, mbk_shape_text(w->tensor, text));
        if (*w->type == 'F')
            return 0;
        if (!c->float_from)
            c->float_from = index + 1;
        const struct word *other = &c->words[c->float_from - 1];
        return other->tensor->type == type ? 0
               : mbk_mismatch(c->k, c->operation, other->name, other->tensor, w->name, w->tensor, "the types must be the same");
    }
    const char *name = mbk_type_name(type);
    if (strlen(name) == w->type_len && memcmp(name, w->type, w->type_len) == 0)
        return 0;
    return mbk_fail(c->k, "%s: %s is %s, not %.*s", c->operation, w->name, mbk_shape_text(w->tensor, text), (int)w->type_len, w->type);
}

static int bind(struct check *c, int index, char letter, int64_t size)
{
    struct word *w = &c->words[index];
    if (!c->size_from[(int)letter]) {
        c->size_from[(int)letter] = index + 1;
        c->size[(int)letter] = size;
        return 0;
    }
    if (c->size[(int)letter] == size)
        return 0;
    char why[80];
    snprintf(why, sizeof why, "%c is %lld in one and %lld in the other", letter, (long long)c->size[(int)letter], (long long)size);
    return word_fails(c, w, &c->words[c->size_from[(int)letter] - 1], why);
}

static int bind_leading(struct check *c, int index, int leading)
{
    struct word *w = &c->words[index];
    if (!c->leading_from) {
        c->leading_from = index + 1;
        int64_t rows = 1;
        for (int i = 0; i < leading; i++)
            rows *= w->tensor->shape[i];
        c->size_from['R'] = index + 1;
        c->size['R'] = rows;
        return 0;
    }
    const struct word *first = &c->words[c->leading_from - 1];
    int first_leading = first->tensor->rank;
    for (size_t i = 0; i < first->shape_len; i++)
        first_leading -= first->shape[i] == ',';
    int same = leading == first_leading;
    for (int i = 0; same && i < leading; i++)
        same = w->tensor->shape[i] == first->tensor->shape[i];
    return same ? 0 : word_fails(c, w, first, "the leading dimensions must agree");
}

static int check_shape(struct check *c, int index)
{
    struct word *w = &c->words[index];
    const struct mbk_tensor *t = w->tensor;
    if (w->shape_len == 1 && *w->shape == 'R' && c->size_from['R'])
        return bind(c, index, 'R', mbk_count(t));
    int dims = w->shape_len > 0, has_leading = w->shape_len >= 3 && memcmp(w->shape, "...", 3) == 0;
    for (size_t i = 0; i < w->shape_len; i++)
        dims += w->shape[i] == ',';
    dims -= has_leading;
    const struct word *beside = index > 0 ? &c->words[0] : NULL;
    if (has_leading ? t->rank < dims : t->rank != dims)
        return word_fails(c, w, beside && beside->tensor ? beside : NULL, "the number of dimensions is wrong");
    int leading = t->rank - dims;
    if (has_leading && bind_leading(c, index, leading))
        return -1;
    const char *p = w->shape + (has_leading ? 3 + (dims > 0) : 0);
    for (int i = leading; i < t->rank; i++) {
        if (isdigit((unsigned char)*p)) {
            int64_t want = 0;
            while (isdigit((unsigned char)*p))
                want = want * 10 + (*p++ - '0');
            if (t->shape[i] != want)
                return word_fails(c, w, beside && beside->tensor ? beside : NULL, "a dimension is wrong");
        } else if (bind(c, index, *p++, t->shape[i])) {
            return -1;
        }
        p++;
    }
    return 0;
}

int mbk_check(struct mbk *k, const char *operation, const char *pattern, ...)
{
    struct check c = { .k = k, .operation = operation };
    va_list tensors;
    va_start(tensors, pattern);
    read_pattern(&c, pattern, tensors);
    va_end(tensors);
    for (int i = 0; i < c.count; i++) {
        struct word *w = &c.words[i];
        if (!w->tensor && !w->optional)
            return mbk_fail(k, "%s: %s is missing", operation, w->name);
        if (w->tensor && (check_tensor(&c, w) || check_type(&c, i) || check_shape(&c, i)))
            return -1;
    }
    return 0;
}
