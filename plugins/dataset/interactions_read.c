/* interactions_read.c: records of who took what, and the tables of users' and items' features; see interactions.h. */
#include "interactions.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define WATCH_EACH 4096

/* -- cells */

static bool digits(const char **p, const char *end, int count, int *out) {
    *out = 0;
    for (int i = 0; i < count; i++, (*p)++) {
        if (*p == end || **p < '0' || **p > '9') return false;
        *out = *out * 10 + (**p - '0');
    }
    return true;
}

/* Days from 1970-01-01 in the proleptic Gregorian calendar: years begin in March, so that the odd day is the last. */
static int64_t days_from_civil(int64_t y, int m, int d) {
    y -= m <= 2;
    int64_t era = y / 400, of_era = y - era * 400, of_year = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

/* 2024-05-01, perhaps with T or a space and 12:30, 12:30:59 or 12:30:59.25, perhaps with Z. */
bool interactions_parse_time(const char *s, size_t n, double *out) {
    const char *p = s, *end = s + n;
    int year, month, day, hour = 0, minute = 0, second = 0;
    double part = 0;
    if (table_parse_number(s, n, out)) return isfinite(*out);
    if (!digits(&p, end, 4, &year) || p == end || *p++ != '-' || !digits(&p, end, 2, &month) || p == end || *p++ != '-' ||
        !digits(&p, end, 2, &day))
        return false;
    if (p < end && (*p == 'T' || *p == ' ')) {
        p++;
        if (!digits(&p, end, 2, &hour) || p == end || *p++ != ':' || !digits(&p, end, 2, &minute)) return false;
        if (p < end && *p == ':' && (p++, !digits(&p, end, 2, &second))) return false;
        if (p < end && *p == '.') {
            double unit = 0.1;
            for (p++; p < end && *p >= '0' && *p <= '9'; p++, unit /= 10) part += unit * (*p - '0');
        }
    }
    if (p < end && *p == 'Z') p++;
    if (p != end || month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59 || second > 60) return false;
    *out = (double)days_from_civil(year, month, day) * 86400 + hour * 3600 + minute * 60 + second + part;
    return true;
}

static bool is_missing(const struct options *o, const struct cell *cell) {
    if (cell->missing || !cell->length) return true;
    for (size_t i = 0; i < o->na.count; i++)
        if (strlen(o->na.items[i]) == cell->length && !memcmp(o->na.items[i], cell->text, cell->length)) return true;
    return false;
}

/* -- records */

enum { USER, ITEM, RATING, TIME, COLUMNS };

struct file {
    struct interactions *x;
    struct records *records;
    const char *wanted[COLUMNS]; /* NULL: the rule names none */
    size_t at[COLUMNS];          /* where the file has it; SIZE_MAX: not yet */
    size_t names_seen;
};

static int complain(const struct file *f, const char *format, const char *what, const struct cell *cell) {
    size_t n = cell->length < 40 ? cell->length : 40;
    while (n < cell->length && n > 0 && ((unsigned char)cell->text[n] & 0xc0) == 0x80) n--;
    char *shown = mbl_arena_strndup(&f->x->arena, cell->text, n);
    mbl_error_set(&f->x->e, format, what, shown);
    return mbl_error_wrap(&f->x->e, "%s:%lld", mbl_stream_name(f->records->stream), (long long)f->records->line);
}

static void find_columns(struct file *f) {
    for (; f->names_seen < f->records->name_count; f->names_seen++)
        for (int c = 0; c < COLUMNS; c++)
            if (f->wanted[c] && !strcmp(f->records->names[f->names_seen], f->wanted[c])) f->at[c] = f->names_seen;
}

static int check_columns(const struct file *f) {
    static const char *const roles[COLUMNS] = {"user", "item", "rating", "time"};
    for (int c = 0; c < COLUMNS; c++) {
        if (!f->wanted[c] || f->at[c] != SIZE_MAX) continue;
        struct mbl_buf list = {0};
        for (size_t i = 0; i < f->records->name_count && i < 20; i++) mbl_buf_addf(&list, "%s%.60s", i ? ", " : "", f->records->names[i]);
        mbl_error_set(&f->x->e, "%s: %s: there is no column \"%.100s\"; there is %s", mbl_stream_name(f->records->stream), roles[c],
                      f->wanted[c], list.len ? mbl_buf_str(&list) : "none");
        mbl_buf_free(&list);
        return -1;
    }
    return 0;
}

static int take_record(struct file *f, int32_t file) {
    static const struct cell absent = {.text = "", .missing = true};
    struct interactions *x = f->x;
    const struct records *r = f->records;
    const struct cell *cells[COLUMNS];
    struct pair p = {.line = r->line, .file = file, .time = (double)x->count};
    double number;
    for (int c = 0; c < COLUMNS; c++) cells[c] = f->wanted[c] && f->at[c] < r->cell_count ? &r->cells[f->at[c]] : &absent;
    for (int c = USER; c <= ITEM; c++) {
        const char *role = c == USER ? "user" : "item";
        if (cells[c]->missing || !cells[c]->length) return complain(f, "there is no %s%s", role, &absent);
        if (cells[c]->list) return complain(f, "the %s is a list; one interaction a record expected%s", role, &absent);
    }
    if (x->rating) {
        if (is_missing(&x->reading, cells[RATING])) return complain(f, "there is no %s%s", "rating", &absent);
        if (!table_parse_number(cells[RATING]->text, cells[RATING]->length, &number) || !isfinite((float)number))
            return complain(f, "the %s \"%s\" is no number", "rating", cells[RATING]);
        p.rating = (float)number;
    }
    if (x->time && !interactions_parse_time(cells[TIME]->text, cells[TIME]->length, &p.time))
        return complain(f, "the %s \"%s\" is neither a number nor a date such as 2024-05-01 or 2024-05-01T12:30:00Z", "time", cells[TIME]);
    if (x->has_least && p.rating < (float)x->least_rating) {
        x->unloved++;
        return 0;
    }
    size_t user = dictionary_add(&x->ids[MBL_USERS], cells[USER]->text, cells[USER]->length),
           item = dictionary_add(&x->ids[MBL_ITEMS], cells[ITEM]->text, cells[ITEM]->length);
    if (x->count >= INT32_MAX - 1) return complain(f, "more than 2147483646 %s are too many%s", "interactions", &absent);
    p.user = (int32_t)user;
    p.item = (int32_t)item;
    x->pairs = mbl_grow(x->pairs, &x->cap, x->count + 1, sizeof *x->pairs);
    x->pairs[x->count++] = p;
    return 0;
}

static int read_file(struct interactions *x, size_t i) {
    struct file f = {.x = x, .wanted = {x->column[MBL_USERS], x->column[MBL_ITEMS], x->rating, x->time}};
    for (int c = 0; c < COLUMNS; c++) f.at[c] = SIZE_MAX;
    if (read_open(x->files[i], &x->reading, &f.records, &x->e)) return -1;
    int got = 1;
    for (size_t n = 0; got > 0 && (got = f.records->next(f.records, &x->e)) > 0; n++) {
        find_columns(&f);
        if ((!n && check_columns(&f)) || take_record(&f, (int32_t)i)) got = -1;
        if (n % WATCH_EACH || got < 0) continue;
        double size = (double)mbl_stream_size(f.records->stream), done = (double)mbl_stream_done(f.records->stream);
        x->host->progress(x->run, ((double)i + (size > done ? done / size : 1)) / (double)x->file_count, 1, "reading");
        if (x->host->cancelled(x->run)) got = mbl_error_set(&x->e, "cancelled");
    }
    f.records->close(f.records);
    return got;
}

/* -- the same pair again */

struct place {
    int32_t user, item;
    uint32_t at;
};

static int by_pair(const void *a, const void *b) {
    const struct place *x = a, *y = b;
    if (x->user != y->user) return x->user < y->user ? -1 : 1;
    if (x->item != y->item) return x->item < y->item ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

static int refuse(struct interactions *x, const struct pair *first, const struct pair *again) {
    return mbl_error_set(
        &x->e,
        "%s:%lld: user \"%.60s\" and item \"%.60s\" are a pair that %s:%lld has already; clean = { duplicates = \"drop\" } "
        "keeps the first, \"last\" the latest",
        x->files[again->file], (long long)again->line, x->ids[MBL_USERS].names[again->user], x->ids[MBL_ITEMS].names[again->item],
        x->files[first->file], (long long)first->line);
}

static int settle_duplicates(struct interactions *x) {
    void *block;
    if (mbl_try_alloc(&block, x->count, sizeof(struct place), "the interactions", &x->e)) return -1;
    struct place *order = block;
    const struct pair *first = NULL, *again = NULL;
    size_t kept = 0;
    bool last = !strcmp(x->duplicates, "last");
    for (size_t i = 0; i < x->count; i++) order[i] = (struct place){x->pairs[i].user, x->pairs[i].item, (uint32_t)i};
    qsort(order, x->count, sizeof *order, by_pair);
    for (size_t i = 0, end; i < x->count; i = end) {
        size_t best = i;
        for (end = i + 1; end < x->count && order[end].user == order[i].user && order[end].item == order[i].item; end++) {
            if (last && x->pairs[order[end].at].time >= x->pairs[order[best].at].time) best = end;
            if (again && again <= &x->pairs[order[end].at]) continue;
            again = &x->pairs[order[end].at];
            first = &x->pairs[order[i].at];
        }
        for (size_t k = i; k < end; k++) x->pairs[order[k].at].part = k == best ? 0 : -1;
    }
    free(block);
    if (again && !strcmp(x->duplicates, "fail")) return refuse(x, first, again);
    for (size_t i = 0; i < x->count; i++)
        if (x->pairs[i].part == 0) x->pairs[kept++] = x->pairs[i];
    x->repeated = x->count - kept;
    x->count = kept;
    return 0;
}

int interactions_read(struct interactions *x) {
    for (size_t i = 0; i < x->file_count; i++)
        if (read_file(x, i)) return -1;
    if (!x->count) return mbl_error_set(&x->e, "%s has no interactions%s", x->files[0], x->unloved ? " that are rated well enough" : "");
    return settle_duplicates(x);
}

/* -- tables of features */

/* Which row of the table each code has. */
static int match_entries(struct interactions *x, enum mbl_side side, const struct column *id) {
    const struct table *t = &x->tables[side];
    const struct side_options *o = &x->side[side];
    struct dictionary *ids = &x->ids[side];
    size_t known = ids->count;
    int32_t *entry = mbl_alloc((known + t->rows) * sizeof *entry);
    x->entry[side] = entry;
    for (size_t i = 0; i < known + t->rows; i++) entry[i] = -1;
    for (size_t row = 0; row < t->rows; row++) {
        if (id->codes[row] < 0)
            return mbl_error_set(&x->e, "%s:%lld: there is no %s in column %s", table_file(t, row), (long long)t->lines[row],
                                 mbl_side_name(side), id->name);
        const char *name = id->dictionary.names[id->codes[row]];
        if (o->unknown == STRANGER_DROP && dictionary_find(ids, name, strlen(name)) == SIZE_MAX) continue;
        size_t before = ids->count, code = dictionary_add(ids, name, strlen(name));
        bool unknown = code >= known;
        if (unknown && o->unknown == STRANGER_FAIL)
            return mbl_error_set(
                &x->e,
                "%s:%lld: %s \"%.100s\" has no interaction; unknown = \"keep\" keeps it, to be recommended by its features, "
                "\"drop\" leaves it out",
                table_file(t, row), (long long)t->lines[row], mbl_side_name(side), name);
        if (code < before && entry[code] >= 0)
            return mbl_error_set(&x->e, "%s:%lld: %s \"%.100s\" is in line %lld already", table_file(t, row), (long long)t->lines[row],
                                 mbl_side_name(side), name, (long long)t->lines[entry[code]]);
        entry[code] = (int32_t)row;
    }
    return 0;
}

static int check_entries(struct interactions *x, enum mbl_side side) {
    if (x->side[side].missing == STRANGER_KEEP) return 0;
    for (size_t i = 0; i < x->count; i++) {
        const struct pair *p = &x->pairs[i];
        int32_t code = side == MBL_USERS ? p->user : p->item;
        if (x->entry[side][code] >= 0) continue;
        return mbl_error_set(&x->e, "%s:%lld: %s \"%.100s\" is not in %s; missing = \"keep\" takes its features as unknown",
                             x->files[p->file], (long long)p->line, mbl_side_name(side), x->ids[side].names[code],
                             table_file(&x->tables[side], 0));
    }
    return 0;
}

static void settle_columns(struct table *t) {
    size_t *all = mbl_alloc((t->rows + 1) * sizeof *all);
    for (size_t i = 0; i < t->rows; i++) all[i] = i;
    for (size_t i = 0; i < t->column_count; i++)
        if (t->columns[i].kind == MBL_CATEGORY) table_settle_categories(&t->columns[i], t->rows, all, t->rows);
    free(all);
}

static void pass_note(struct reading *r, const char *text) {
    struct interactions *x = r->context;
    x->host->log(x->run, MB_WARN, "%s", text);
}

static int read_side(struct interactions *x, enum mbl_side side, const char *path) {
    struct side_options *o = &x->side[side];
    struct options options = x->reading;
    struct names category = {mbl_arena_alloc(&x->arena, (o->category.count + 1) * sizeof(char *)), 0};
    for (size_t i = 0; i < o->category.count; i++) category.items[category.count++] = o->category.items[i];
    category.items[category.count++] = o->id; /* ids are words, whatever they look like */
    options.category = category;
    options.ignore = o->ignore;
    struct reading r = {.paths = &path, .path_count = 1, .options = &options, .note = pass_note, .context = x};
    if (read_table(&r, &x->tables[side], &x->e)) return -1;
    x->has_table[side] = true;
    const struct column *id = table_find(&x->tables[side], o->id);
    if (!id || id->kind != MBL_CATEGORY) return mbl_error_set(&x->e, "%s: its column %s holds no ids", path, o->id);
    if (match_entries(x, side, id) || check_entries(x, side)) return -1;
    settle_columns(&x->tables[side]);
    return 0;
}

int interactions_read_tables(struct interactions *x) {
    static const char *const roles[MBL_SIDES] = {"users", "items"};
    for (enum mbl_side side = MBL_USERS; side < MBL_SIDES; side++) {
        const char *path = x->host->input_path(x->run, roles[side], 0);
        if (path && read_side(x, side, path)) return -1;
    }
    return 0;
}
