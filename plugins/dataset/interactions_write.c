/* interactions_write.c: users and items in their order, the schema, and the parts with what was seen before them; see interactions.h. */
#include "interactions.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool trains(const struct pair *p) {
    return p->part == PART_TRAIN || p->part == PART_ALL;
}

static int32_t code_of(const struct pair *p, enum mbl_side side) {
    return side == MBL_USERS ? p->user : p->item;
}

/* -- who stands where: those met in training first, each group by id: by number if all ids are numbers, else by bytes */

struct entity {
    const char *id;
    double number;
    int64_t count;
    int32_t code;
};

static int by_id(const void *a, const void *b) {
    const struct entity *x = a, *y = b;
    if (!x->count != !y->count) return x->count ? -1 : 1;
    if (x->number != y->number) return x->number < y->number ? -1 : 1;
    return strcmp(x->id, y->id);
}

static struct entity *order_entities(struct interactions *x, enum mbl_side side, int32_t *moved) {
    const struct dictionary *d = &x->ids[side];
    struct entity *list = mbl_arena_alloc(&x->arena, (d->count + 1) * sizeof *list);
    bool numbers = true;
    for (size_t i = 0; i < d->count; i++) {
        list[i] = (struct entity){.id = d->names[i], .code = (int32_t)i};
        numbers = table_parse_number(d->names[i], strlen(d->names[i]), &list[i].number) && numbers;
    }
    for (size_t i = 0; i < d->count && !numbers; i++) list[i].number = 0;
    for (size_t i = 0; i < x->count; i++)
        if (trains(&x->pairs[i])) list[code_of(&x->pairs[i], side)].count++;
    qsort(list, d->count, sizeof *list, by_id);
    for (size_t i = 0; i < d->count; i++) moved[list[i].code] = (int32_t)i;
    return list;
}

/* -- features */

/* Mean and deviation over those met in training, or over all that have the number where none of these has. */
static void fit_number(const struct mbl_entities *s, size_t column, struct mbl_trait *t) {
    for (int64_t most = s->trained;; most = s->count) {
        double sum = 0, squares = 0, n = 0;
        for (int64_t i = 0; i < most; i++) {
            float v = s->numbers[(size_t)i * s->number_count + column];
            if (!isnan(v)) sum += (double)v, n++;
        }
        double mean = n > 0 ? sum / n : 0;
        for (int64_t i = 0; i < most; i++) {
            double v = (double)s->numbers[(size_t)i * s->number_count + column];
            if (!isnan(v)) squares += (v - mean) * (v - mean);
        }
        float factor = n > 0 ? (float)(1 / sqrt(squares / n)) : 1;
        t->offset = (float)mean;
        t->factor = isfinite(factor) ? factor : 1;
        if (n > 0 || most == s->count) return;
    }
}

static void take_traits(struct interactions *x, enum mbl_side side, const struct entity *list) {
    struct mbl_entities *s = &x->entities[side];
    const struct table *t = &x->tables[side];
    struct mbl_arena *a = &x->arena;
    s->traits = mbl_arena_alloc(a, (t->column_count + 1) * sizeof *s->traits);
    s->codes = mbl_arena_alloc(a, (t->column_count + 1) * sizeof *s->codes);
    for (size_t i = 0; i < t->column_count; i++) s->number_count += t->columns[i].kind == MBL_NUMERIC;
    s->numbers = mbl_arena_alloc(a, (size_t)s->count * s->number_count * sizeof *s->numbers + 1);
    for (size_t i = 0, column = 0; i < t->column_count; i++) {
        const struct column *c = &t->columns[i];
        struct mbl_trait *trait = &s->traits[s->trait_count];
        if (!strcmp(c->name, x->side[side].id) || column_is_text(c)) continue;
        *trait = (struct mbl_trait){.name = c->name, .factor = 1, .category = c->kind == MBL_CATEGORY};
        if (trait->category) {
            trait->categories = c->dictionary.names;
            trait->category_count = c->dictionary.count;
            s->codes[s->trait_count] = mbl_arena_alloc(a, (size_t)s->count * sizeof **s->codes);
        }
        for (int64_t k = 0; k < s->count; k++) {
            int32_t row = x->entry[side][list[k].code];
            if (trait->category) s->codes[s->trait_count][k] = row < 0 ? -1 : c->codes[row];
            else s->numbers[(size_t)k * s->number_count + column] = row < 0 ? NAN : table_number(c, (size_t)row, 0);
        }
        if (!trait->category) fit_number(s, column++, trait);
        s->trait_count++;
    }
}

static void settle_side(struct interactions *x, enum mbl_side side) {
    struct mbl_entities *s = &x->entities[side];
    size_t count = x->ids[side].count;
    int32_t *moved = mbl_arena_alloc(&x->arena, (count + 1) * sizeof *moved);
    const struct entity *list = order_entities(x, side, moved);
    *s = (struct mbl_entities){.column = x->column[side], .count = (int64_t)count};
    s->ids = mbl_arena_alloc(&x->arena, (count + 1) * sizeof *s->ids);
    s->counts = mbl_arena_alloc(&x->arena, (count + 1) * sizeof *s->counts);
    for (size_t i = 0; i < count; i++) {
        s->ids[i] = list[i].id;
        s->counts[i] = list[i].count;
        s->trained += list[i].count > 0;
    }
    if (x->has_table[side]) take_traits(x, side, list);
    for (size_t i = 0; i < x->count; i++) {
        int32_t *code = side == MBL_USERS ? &x->pairs[i].user : &x->pairs[i].item;
        *code = moved[*code];
    }
}

/* -- the schema */

static struct mbl_json *describe_side(const struct mbl_entities *s, struct mbl_arena *a) {
    struct mbl_json *table = mbl_json_table(a), *features = mbl_json_list(a);
    mbl_json_set(a, table, "column", mbl_json_string(a, s->column));
    mbl_json_set(a, table, "count", mbl_json_int(a, s->count));
    mbl_json_set(a, table, "trained", mbl_json_int(a, s->trained));
    for (size_t i = 0; i < s->trait_count; i++) {
        const struct mbl_trait *t = &s->traits[i];
        struct mbl_json *entry = mbl_json_table(a), *categories = mbl_json_list(a);
        mbl_json_set(a, entry, "name", mbl_json_string(a, t->name));
        mbl_json_set(a, entry, "kind", mbl_json_string(a, t->category ? "category" : "numeric"));
        for (size_t c = 0; c < t->category_count; c++) mbl_json_push(a, categories, mbl_json_string(a, t->categories[c]));
        if (t->category) mbl_json_set(a, entry, "categories", categories);
        else mbl_json_set(a, entry, "offset", mbl_json_float32(a, t->offset));
        if (!t->category) mbl_json_set(a, entry, "factor", mbl_json_float32(a, t->factor));
        mbl_json_push(a, features, entry);
    }
    if (s->trait_count) mbl_json_set(a, table, "features", features);
    return table;
}

static struct mbl_json *describe_ratings(const struct interactions *x, struct mbl_arena *a) {
    struct mbl_json *target = mbl_json_table(a);
    double sum = 0, squares = 0, n = 0;
    for (size_t i = 0; i < x->count; i++)
        if (trains(&x->pairs[i])) sum += (double)x->pairs[i].rating, n++;
    for (size_t i = 0; i < x->count; i++) {
        double d = (double)x->pairs[i].rating - sum / n;
        if (trains(&x->pairs[i])) squares += d * d;
    }
    double deviation = sqrt(squares / n);
    mbl_json_set(a, target, "mean", mbl_json_float(a, sum / n));
    mbl_json_set(a, target, "deviation", mbl_json_float(a, deviation > 0 ? deviation : 1));
    return target;
}

static struct mbl_json *make_schema(struct interactions *x) {
    struct mbl_arena *a = &x->arena;
    struct mbl_json *schema = mbl_json_table(a), *rows = mbl_json_table(a), *source = mbl_json_table(a), *digests = mbl_json_list(a);
    size_t counts[PART_COUNT] = {0};
    for (size_t i = 0; i < x->count; i++) counts[x->pairs[i].part]++;
    mbl_json_set(a, schema, "version", mbl_json_int(a, MBL_SCHEMA_VERSION));
    mbl_json_set(a, schema, "task", mbl_json_string(a, "interactions"));
    mbl_json_set(a, schema, "users", describe_side(&x->entities[MBL_USERS], a));
    mbl_json_set(a, schema, "items", describe_side(&x->entities[MBL_ITEMS], a));
    if (x->rating) mbl_json_set(a, schema, "rating", mbl_json_string(a, x->rating));
    if (x->rating) mbl_json_set(a, schema, "target", describe_ratings(x, a));
    if (x->time) mbl_json_set(a, schema, "time", mbl_json_string(a, x->time));
    for (int p = 0; p < PART_COUNT; p++)
        if (counts[p]) mbl_json_set(a, rows, part_names[p], mbl_json_int(a, (int64_t)counts[p]));
    mbl_json_set(a, schema, "rows", rows);
    for (size_t i = 0; i < x->file_count; i++) mbl_json_push(a, digests, mbl_json_string(a, x->host->input_digest(x->run, "from", i)));
    mbl_json_set(a, source, "sha256", digests);
    if (x->licence) mbl_json_set(a, source, "licence", mbl_json_string(a, x->licence));
    mbl_json_set(a, schema, "source", source);
    return schema;
}

/* -- parts */

static int by_number(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* What each user took in the `count` interactions before a part: they lie before it. */
static void gather_seen(struct interactions *x, size_t count, int64_t **at, int32_t **items) {
    int64_t users = x->entities[MBL_USERS].count;
    int64_t *begin = mbl_arena_alloc(&x->arena, ((size_t)users + 2) * sizeof *begin);
    *items = mbl_arena_alloc(&x->arena, (count + 1) * sizeof **items);
    *at = begin;
    for (size_t i = 0; i < count; i++) begin[x->pairs[i].user + 2]++; /* one further, so that filling moves it to its place */
    for (int64_t u = 2; u <= users + 1; u++) begin[u] += begin[u - 1];
    for (size_t i = 0; i < count; i++) (*items)[begin[x->pairs[i].user + 1]++] = x->pairs[i].item;
    for (int64_t u = 0; u < users; u++)
        if (begin[u + 1] > begin[u]) qsort(*items + begin[u], (size_t)(begin[u + 1] - begin[u]), sizeof **items, by_number);
}

static int write_part(struct interactions *x, int part, const struct mbl_json *schema, const char *path) {
    struct mbl_arena *a = &x->arena;
    struct mbl_buf text = {0};
    size_t first = 0, n = 0, count = 0, traits = x->entities[MBL_USERS].trait_count + x->entities[MBL_ITEMS].trait_count;
    while (first < x->count && x->pairs[first].part != part) first++;
    while (first + count < x->count && x->pairs[first + count].part == part) count++;
    int64_t rows = (int64_t)count, *lines = mbl_arena_alloc(a, (count + 1) * sizeof *lines), *seen_at;
    int32_t *user = mbl_arena_alloc(a, (count + 1) * sizeof *user), *item = mbl_arena_alloc(a, (count + 1) * sizeof *item), *seen;
    float *rating = mbl_arena_alloc(a, (count + 1) * sizeof *rating);
    double *time = mbl_arena_alloc(a, (count + 1) * sizeof *time);
    for (size_t i = 0; i < count; i++) {
        const struct pair *p = &x->pairs[first + i];
        user[i] = p->user, item[i] = p->item, rating[i] = p->rating, time[i] = p->time, lines[i] = p->line;
    }
    struct mbl_tensor *t = mbl_arena_alloc(a, (16 + traits) * sizeof *t);
    t[n++] = (struct mbl_tensor){.name = "user", .type = MBL_I32, .rank = 1, .shape = {rows}, .data = user};
    t[n++] = (struct mbl_tensor){.name = "item", .type = MBL_I32, .rank = 1, .shape = {rows}, .data = item};
    t[n++] = (struct mbl_tensor){.name = "line", .type = MBL_I64, .rank = 1, .shape = {rows}, .data = lines};
    if (x->rating) t[n++] = (struct mbl_tensor){.name = "rating", .type = MBL_F32, .rank = 1, .shape = {rows}, .data = rating};
    if (x->time) t[n++] = (struct mbl_tensor){.name = "time", .type = MBL_F64, .rank = 1, .shape = {rows}, .data = time};
    if (first) {
        gather_seen(x, first, &seen_at, &seen);
        t[n++] = (struct mbl_tensor){.name = "seen", .type = MBL_I32, .rank = 1, .shape = {(int64_t)first}, .data = seen};
        t[n++] = (struct mbl_tensor){.name = "seen:offsets", .type = MBL_I64, .rank = 1,
                                     .shape = {x->entities[MBL_USERS].count + 1}, .data = seen_at};
    }
    for (enum mbl_side side = MBL_USERS; side < MBL_SIDES; side++) n += mbl_entities_tensors(&x->entities[side], side, a, t + n);
    struct mbl_json *metadata = mbl_json_table(a);
    mbl_json_write(schema, MBL_JSON_COMPACT, &text);
    mbl_json_set(a, metadata, "schema", mbl_json_string(a, mbl_buf_str(&text)));
    mbl_json_set(a, metadata, "part", mbl_json_string(a, part_names[part]));
    mbl_buf_free(&text);
    return mbl_safetensors_save(path, t, n, metadata, &x->e);
}

int interactions_write(struct interactions *x) {
    for (enum mbl_side side = MBL_USERS; side < MBL_SIDES; side++) settle_side(x, side);
    struct mbl_json *schema = make_schema(x);
    struct mbl_schema parsed; /* whoever reads it must be able to */
    if (mbl_schema_parse(schema, &x->arena, &parsed, &x->e)) return -1;
    const char *path = x->host->output_path(x->run, "schema", 0);
    if (path && mbl_json_save(path, schema, &x->e)) return -1;
    for (int p = 0; p < PART_COUNT; p++) {
        path = x->host->output_path(x->run, part_names[p], 0);
        if (path && write_part(x, p, schema, path)) return -1;
    }
    return 0;
}
