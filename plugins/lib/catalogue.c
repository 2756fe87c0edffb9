/* catalogue.c: users and items by id; see catalogue.h. What comes from a file is checked to the last byte. */
#include "catalogue.h"
#include "utf8.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MOST_ENTITIES (INT64_C(1) << 30)
#define MOST_TRAITS 4096

const char *mbl_side_name(enum mbl_side s) {
    static const char *const names[MBL_SIDES] = {"user", "item"};
    return names[s];
}

/* -- the schema */

static int parse_trait(const struct mbl_json *entry, const char *where, struct mbl_arena *a, struct mbl_trait *out, struct mbl_error *e) {
    const char *kind = mbl_json_get_string(entry, "kind");
    out->name = mbl_json_get_string(entry, "name");
    if (!out->name || !kind) return mbl_error_set(e, "schema: %s: a feature needs a name and a kind", where);
    if (!strcmp(kind, "numeric")) {
        out->offset = (float)mbl_json_get_float(entry, "offset", 0);
        out->factor = (float)mbl_json_get_float(entry, "factor", 1);
        if (isfinite(out->offset) && isfinite(out->factor)) return 0;
        return mbl_error_set(e, "schema: %s: the scaling of %.100s is no finite number", where, out->name);
    }
    if (strcmp(kind, "category")) return mbl_error_set(e, "schema: %s: %.100s has the unknown kind \"%.40s\"", where, out->name, kind);
    const struct mbl_json *list = mbl_json_get(entry, "categories");
    if (!list || list->type != MBL_JSON_LIST) return mbl_error_set(e, "schema: %s: %.100s has no list of categories", where, out->name);
    const char **names = mbl_arena_alloc(a, (list->count + 1) * sizeof *names);
    for (size_t i = 0; i < list->count; i++) {
        if (list->items[i]->type != MBL_JSON_STRING)
            return mbl_error_set(e, "schema: %s: %.100s: category %zu is no name", where, out->name, i + 1);
        names[i] = list->items[i]->string;
    }
    out->category = true;
    out->categories = names;
    out->category_count = list->count;
    return 0;
}

int mbl_entities_parse(const struct mbl_json *schema, enum mbl_side side, struct mbl_arena *a, struct mbl_entities *out,
                       struct mbl_error *e) {
    const char *where = side == MBL_USERS ? "users" : "items";
    const struct mbl_json *table = mbl_json_get(schema, where), *features = mbl_json_get(table, "features");
    *out = (struct mbl_entities){.column = mbl_json_get_string(table, "column")};
    if (!table || !out->column) return mbl_error_set(e, "schema: it has no table \"%s\" with a column", where);
    out->count = mbl_json_get_int(table, "count", -1);
    out->trained = mbl_json_get_int(table, "trained", -1);
    if (out->count < 1 || out->count > MOST_ENTITIES || out->trained < 0 || out->trained > out->count)
        return mbl_error_set(e, "schema: %s: count %lld and trained %lld are out of range", where, (long long)out->count,
                             (long long)out->trained);
    if (features && (features->type != MBL_JSON_LIST || features->count > MOST_TRAITS))
        return mbl_error_set(e, "schema: %s: features must be a list of at most %d", where, MOST_TRAITS);
    out->trait_count = features ? features->count : 0;
    out->traits = mbl_arena_alloc(a, (out->trait_count + 1) * sizeof *out->traits);
    for (size_t i = 0; i < out->trait_count; i++) {
        if (parse_trait(features->items[i], where, a, &out->traits[i], e)) return -1;
        out->number_count += !out->traits[i].category;
        for (size_t k = 0; k < i; k++)
            if (!strcmp(out->traits[k].name, out->traits[i].name))
                return mbl_error_set(e, "schema: %s: two features are called %.100s", where, out->traits[i].name);
    }
    return 0;
}

/* -- ids by hash: open addressing */

static size_t *find_slot(const struct mbl_entities *s, const char *id) {
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */
    for (const char *p = id; *p; p++) h = (h ^ (unsigned char)*p) * 0x100000001b3u;
    size_t mask = s->slot_count - 1, i = (size_t)(h ^ h >> 29) & mask;
    while (s->slots[i] && strcmp(s->ids[s->slots[i] - 1], id) != 0) i = (i + 1) & mask;
    return &s->slots[i];
}

static void make_slots(struct mbl_entities *s, int64_t room) {
    free(s->slots);
    for (s->slot_count = 64; s->slot_count < 2 * (size_t)room;) s->slot_count *= 2;
    s->slots = mbl_alloc(s->slot_count * sizeof *s->slots);
    for (int64_t i = 0; i < s->count; i++) *find_slot(s, s->ids[i]) = (size_t)i + 1;
}

int64_t mbl_catalogue_find(const struct mbl_catalogue *c, enum mbl_side side, const char *id) {
    const struct mbl_entities *s = &c->side[side];
    return s->slot_count ? (int64_t)*find_slot(s, id) - 1 : -1;
}

/* -- reading */

struct opening {
    const struct mbl_safetensors *file;
    struct mbl_catalogue *c;
    struct mbl_entities *s;
    const char *name;            /* of the side */
    struct mbl_error *e;
};

static int find_tensor(const struct opening *o, const char *name, enum mbl_dtype type, int rank, int64_t rows, int64_t width,
                       const struct mbl_tensor **out) {
    const struct mbl_tensor *t = *out = mbl_safetensors_find(o->file, name);
    if (!t) return mbl_error_set(o->e, "the tensor %.200s is missing", name);
    if (t->type == type && t->rank == rank && (rows < 0 || t->shape[0] == rows) && (rank < 2 || t->shape[1] == width)) return 0;
    return mbl_error_set(o->e, "the tensor %.200s is %s with %d dimensions, of %lld rows; %s with %d, of %lld rows, expected by the schema",
                         name, mbl_dtype_name(t->type), t->rank, t->rank ? (long long)t->shape[0] : 0, mbl_dtype_name(type), rank,
                         (long long)rows);
}

/* A copy of a tensor's data, for it may lie anywhere. */
static int copy_tensor(const struct opening *o, const char *name, enum mbl_dtype type, int rank, int64_t width, void *out) {
    const struct mbl_tensor *t;
    void *block;
    if (find_tensor(o, name, type, rank, o->s->count, width, &t)) return -1;
    if (mbl_try_alloc(&block, (uint64_t)mbl_tensor_count(t), mbl_dtype_width(type), name, o->e)) return -1;
    memcpy(block, t->data, t->bytes);
    memcpy(out, &block, sizeof block);
    return 0;
}

static int read_ids(struct opening *o) {
    struct mbl_entities *s = o->s;
    const struct mbl_tensor *bytes, *offsets;
    const char *name = mbl_arena_printf(&o->c->arena, "%s:ids", o->name), *at = mbl_arena_printf(&o->c->arena, "%s:ids:offsets", o->name);
    if (find_tensor(o, name, MBL_U8, 1, -1, 0, &bytes) || find_tensor(o, at, MBL_I64, 1, s->count + 1, 0, &offsets)) return -1;
    s->ids = mbl_alloc((size_t)s->count * sizeof *s->ids); /* no more than the file has offsets */
    int64_t begin = 0, end, count = s->count;
    s->count = 0;
    s->own = s->cap = count;
    make_slots(s, count);
    for (int64_t i = 0; i <= count; i++, begin = end) {
        memcpy(&end, (const char *)offsets->data + i * 8, sizeof end);
        if (i == 0 ? end != 0 : end <= begin || end > bytes->shape[0])
            return mbl_error_set(o->e, "%s: offset %lld is %lld, which parts nothing off", at, (long long)i, (long long)end);
        if (!i) continue;
        const char *text = (const char *)bytes->data + begin;
        size_t n = (size_t)(end - begin);
        if (memchr(text, 0, n) || mbl_utf8_check(text, n) != n)
            return mbl_error_set(o->e, "%s: id %lld is no UTF-8 text", name, (long long)i - 1);
        char *id = mbl_arena_strndup(&o->c->arena, text, n);
        size_t *slot = find_slot(s, id);
        if (*slot) return mbl_error_set(o->e, "%s: id \"%.100s\" is there twice", name, id);
        s->ids[s->count++] = id;
        *slot = (size_t)s->count;
    }
    return 0;
}

static int read_traits(struct opening *o) {
    struct mbl_entities *s = o->s;
    struct mbl_arena *a = &o->c->arena;
    s->codes = mbl_alloc((s->trait_count + 1) * sizeof *s->codes);
    if (s->number_count && copy_tensor(o, mbl_arena_printf(a, "%s:numbers", o->name), MBL_F32, 2, (int64_t)s->number_count, &s->numbers))
        return -1;
    for (int64_t i = 0; i < s->count * (int64_t)s->number_count; i++)
        if (isinf(s->numbers[i])) return mbl_error_set(o->e, "%s:numbers: element %lld is infinite", o->name, (long long)i);
    for (size_t t = 0; t < s->trait_count; t++) {
        if (!s->traits[t].category) continue;
        const char *name = mbl_arena_printf(a, "%s:category:%s", o->name, s->traits[t].name);
        if (copy_tensor(o, name, MBL_I32, 1, 0, &s->codes[t])) return -1;
        for (int64_t i = 0; i < s->count; i++)
            if (s->codes[t][i] < -1 || (s->codes[t][i] >= 0 && (size_t)s->codes[t][i] >= s->traits[t].category_count))
                return mbl_error_set(o->e, "%.200s: row %lld: there is no category %d", name, (long long)i, s->codes[t][i]);
    }
    return 0;
}

static int read_side(struct opening *o) {
    struct mbl_entities *s = o->s;
    if (read_ids(o) || copy_tensor(o, mbl_arena_printf(&o->c->arena, "%s:counts", o->name), MBL_I64, 1, 0, &s->counts)) return -1;
    for (int64_t i = 0; i < s->count; i++)
        if (s->counts[i] < (i < s->trained) || s->counts[i] > INT64_MAX / MOST_ENTITIES)
            return mbl_error_set(o->e, "%s:counts: row %lld is %lld, which can't be", o->name, (long long)i, (long long)s->counts[i]);
    return read_traits(o);
}

int mbl_catalogue_read(const struct mbl_json *schema, const struct mbl_safetensors *file, struct mbl_catalogue **out, struct mbl_error *e) {
    struct mbl_catalogue *c = mbl_alloc(sizeof *c);
    for (enum mbl_side side = MBL_USERS; side < MBL_SIDES; side++) {
        struct opening o = {file, c, &c->side[side], mbl_side_name(side), e};
        if (mbl_entities_parse(schema, side, &c->arena, o.s, e) || read_side(&o)) {
            mbl_catalogue_free(c);
            *out = NULL;
            return -1;
        }
    }
    *out = c;
    return 0;
}

int mbl_catalogue_open(const struct mbl_json *schema, const char *folder, struct mbl_catalogue **out, struct mbl_error *e) {
    struct mbl_arena arena = {0};
    struct mbl_safetensors file;
    const char *path = mbl_path_join(&arena, folder, "catalogue.safetensors");
    int status = mbl_safetensors_open(path, &file, e);
    *out = NULL;
    if (!status) {
        status = mbl_catalogue_read(schema, &file, out, e) ? mbl_error_wrap(e, "%s", path) : 0;
        mbl_safetensors_close(&file);
    }
    mbl_arena_free(&arena);
    return status;
}

void mbl_catalogue_free(struct mbl_catalogue *c) {
    if (!c) return;
    for (enum mbl_side side = MBL_USERS; side < MBL_SIDES; side++) {
        struct mbl_entities *s = &c->side[side];
        for (size_t t = 0; s->codes && t < s->trait_count; t++) free(s->codes[t]);
        free(s->ids);
        free(s->counts);
        free(s->numbers);
        free(s->codes);
        free(s->slots);
    }
    mbl_arena_free(&c->arena);
    free(c);
}

/* -- growing */

int64_t mbl_catalogue_add(struct mbl_catalogue *c, enum mbl_side side, const char *id) {
    struct mbl_entities *s = &c->side[side];
    int64_t at = s->count;
    size_t room = (size_t)at + 1;
    if (at == s->cap) {
        size_t cap = 2 * room;
        s->cap = (int64_t)cap;
        s->ids = mbl_realloc(s->ids, cap * sizeof *s->ids);
        s->counts = mbl_realloc(s->counts, cap * sizeof *s->counts);
        s->numbers = mbl_realloc(s->numbers, cap * s->number_count * sizeof *s->numbers + 1);
        for (size_t t = 0; t < s->trait_count; t++)
            if (s->traits[t].category) s->codes[t] = mbl_realloc(s->codes[t], cap * sizeof **s->codes);
    }
    s->ids[at] = mbl_arena_strdup(&c->arena, id);
    s->counts[at] = 0;
    for (size_t k = 0; k < s->number_count; k++) s->numbers[(size_t)at * s->number_count + k] = NAN;
    for (size_t t = 0; t < s->trait_count; t++)
        if (s->traits[t].category) s->codes[t][at] = -1;
    s->count++;
    if (2 * room > s->slot_count) make_slots(s, 2 * s->count);
    else *find_slot(s, id) = room;
    return at;
}

/* Where each trait of `s` is among those of `from`, of the same kind; SIZE_MAX: nowhere. */
static size_t same_trait(const struct mbl_entities *from, const struct mbl_trait *t) {
    for (size_t i = 0; i < from->trait_count; i++)
        if (from->traits[i].category == t->category && !strcmp(from->traits[i].name, t->name)) return i;
    return SIZE_MAX;
}

static size_t number_column(const struct mbl_entities *s, size_t trait) {
    size_t column = 0;
    for (size_t i = 0; i < trait; i++) column += !s->traits[i].category;
    return column;
}

static int32_t same_category(const struct mbl_trait *t, const char *name) {
    for (size_t i = 0; i < t->category_count; i++)
        if (!strcmp(t->categories[i], name)) return (int32_t)i;
    return -1;
}

int mbl_catalogue_set(struct mbl_catalogue *c, enum mbl_side side, int64_t index, const char *feature, const char *text, double number,
                      struct mbl_error *e) {
    struct mbl_entities *s = &c->side[side];
    for (size_t t = 0; t < s->trait_count; t++) {
        if (strcmp(s->traits[t].name, feature)) continue;
        if (s->traits[t].category ? !text : !isfinite(number))
            return mbl_error_set(e, "%.100s: %s expected", feature, s->traits[t].category ? "a text, one of its categories," : "a number");
        if (s->traits[t].category) s->codes[t][index] = same_category(&s->traits[t], text);
        else s->numbers[(size_t)index * s->number_count + number_column(s, t)] = (float)number;
        return 0;
    }
    return mbl_error_set(e, "the model's %ss have no feature \"%.100s\"", mbl_side_name(side), feature);
}

void mbl_catalogue_adopt(struct mbl_catalogue *c, enum mbl_side side, const struct mbl_catalogue *other, int32_t *map) {
    struct mbl_entities *s = &c->side[side];
    const struct mbl_entities *from = &other->side[side];
    for (int64_t i = 0; i < from->count; i++) {
        int64_t known = mbl_catalogue_find(c, side, from->ids[i]);
        map[i] = (int32_t)known;
        if (known >= 0) continue;
        int64_t at = mbl_catalogue_add(c, side, from->ids[i]);
        map[i] = (int32_t)at;
        for (size_t t = 0; t < s->trait_count; t++) {
            size_t other_trait = same_trait(from, &s->traits[t]);
            if (other_trait == SIZE_MAX) continue;
            if (!s->traits[t].category)
                s->numbers[(size_t)at * s->number_count + number_column(s, t)] =
                    from->numbers[(size_t)i * from->number_count + number_column(from, other_trait)];
            else if (from->codes[other_trait][i] >= 0)
                s->codes[t][at] = same_category(&s->traits[t], from->traits[other_trait].categories[from->codes[other_trait][i]]);
        }
    }
}

/* -- writing */

size_t mbl_entities_tensors(const struct mbl_entities *s, enum mbl_side side, struct mbl_arena *a, struct mbl_tensor *out) {
    const char *name = mbl_side_name(side);
    int64_t *offsets = mbl_arena_alloc(a, ((size_t)s->count + 1) * sizeof *offsets);
    for (int64_t i = 0; i < s->count; i++) offsets[i + 1] = offsets[i] + (int64_t)strlen(s->ids[i]);
    char *bytes = mbl_arena_alloc(a, (size_t)offsets[s->count] + 1);
    for (int64_t i = 0; i < s->count; i++) memcpy(bytes + offsets[i], s->ids[i], (size_t)(offsets[i + 1] - offsets[i]));
    size_t n = 0;
    out[n++] = (struct mbl_tensor){.name = mbl_arena_printf(a, "%s:ids", name), .type = MBL_U8, .rank = 1, .shape = {offsets[s->count]},
                                   .data = bytes};
    out[n++] = (struct mbl_tensor){.name = mbl_arena_printf(a, "%s:ids:offsets", name), .type = MBL_I64, .rank = 1,
                                   .shape = {s->count + 1}, .data = offsets};
    out[n++] = (struct mbl_tensor){.name = mbl_arena_printf(a, "%s:counts", name), .type = MBL_I64, .rank = 1, .shape = {s->count},
                                   .data = s->counts};
    if (s->number_count)
        out[n++] = (struct mbl_tensor){.name = mbl_arena_printf(a, "%s:numbers", name), .type = MBL_F32, .rank = 2,
                                       .shape = {s->count, (int64_t)s->number_count}, .data = s->numbers};
    for (size_t t = 0; t < s->trait_count; t++)
        if (s->traits[t].category)
            out[n++] = (struct mbl_tensor){.name = mbl_arena_printf(a, "%s:category:%s", name, s->traits[t].name), .type = MBL_I32,
                                           .rank = 1, .shape = {s->count}, .data = s->codes[t]};
    return n;
}

int mbl_catalogue_save(const struct mbl_catalogue *c, const char *folder, struct mbl_error *e) {
    struct mbl_arena arena = {0};
    size_t n = 0;
    struct mbl_tensor *tensors =
        mbl_arena_alloc(&arena, (8 + c->side[MBL_USERS].trait_count + c->side[MBL_ITEMS].trait_count) * sizeof *tensors);
    for (enum mbl_side side = MBL_USERS; side < MBL_SIDES; side++) {
        struct mbl_entities own = c->side[side];
        own.count = own.own;
        n += mbl_entities_tensors(&own, side, &arena, tensors + n);
    }
    int status = mbl_safetensors_save(mbl_path_join(&arena, folder, "catalogue.safetensors"), tensors, n, NULL, e);
    mbl_arena_free(&arena);
    return status;
}
