/* read_records.c: records to a table, in two passes; see read.h. The first learns what each column holds, so that the second can put every
 * cell where it belongs, four bytes a number. The source is an input of the step and does not change in between.
 */
#include "read.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DISTINCT_MOST 100     /* a column of more different words than this is text, not a category, unless the rule says so */
#define STRAY_SHARE 10        /* up to one cell in so many that is no number is a mistake in the data, not a column of words */
#define EXACT_MOST 16777216.0 /* binary32 counts exactly up to 2^24 */
#define WATCH_EACH 4096

/* What the first pass learns of a column. */
struct survey {
    enum column_use use;
    enum mbl_column_kind kind;
    size_t seen, numbers;      /* cells that aren't missing; of these, numbers */
    size_t lists;              /* cells that are lists, and the first of them */
    int64_t list_line;
    const char *list_file;
    bool fractions, large;     /* some number is no integer; some is an integer beyond EXACT_MOST */
    struct dictionary distinct; /* up to DISTINCT_MOST + 1 of them */
    int64_t stray_line;        /* the first cell that is no number, */
    const char *stray_file;
    char stray[64];
    struct column *column;     /* where the second pass puts it */
};

struct loading {
    struct reading *r;
    int (*open)(struct mbl_stream *, const struct options *, struct records **, struct mbl_error *);
    struct mbl_arena arena;
    struct dictionary names;   /* of all columns, over all files */
    struct survey *surveys;    /* beside them */
    size_t count, survey_cap;
    size_t *filled;            /* by column: the number of records after the last one that had it */
    size_t *places, place_cap, placed; /* column of the current file → column of all */
    size_t rows, pass;
    const char *words;         /* the column of words; NULL: there is none */
    struct table *table;
};

static bool is_na(const struct options *o, const struct cell *cell) {
    if (cell->missing || !cell->length) return true;
    for (size_t i = 0; i < o->na.count; i++)
        if (strlen(o->na.items[i]) == cell->length && !memcmp(o->na.items[i], cell->text, cell->length)) return true;
    return false;
}

/* Columns that the current file has and that were not met yet. */
static void place_columns(struct loading *l, const struct records *records) {
    for (; l->placed < records->name_count; l->placed++) {
        const char *name = records->names[l->placed];
        size_t i = dictionary_add(&l->names, name, strlen(name));
        l->places = mbl_grow(l->places, &l->place_cap, l->placed + 1, sizeof *l->places);
        l->places[l->placed] = i;
        if (i < l->count) continue;
        l->surveys = mbl_grow(l->surveys, &l->survey_cap, i + 1, sizeof *l->surveys);
        l->surveys[i] = (struct survey){.use = COLUMN_FEATURE};
        l->count++;
    }
}

/* Files of a table must agree: a column that only some have would be missing in all rows of the others. JSON Lines name theirs line by
 * line. */
static int check_columns(const struct loading *l, const struct records *records, size_t before, struct mbl_error *e) {
    if (before == 0 || records->name_count == 0) return 0;
    if (l->count == before && records->name_count == before) return 0;
    return mbl_error_set(e, "%s has other columns than %s: %zu, not %zu, or other names", mbl_stream_name(records->stream), l->r->paths[0],
                         records->name_count, before);
}

static int survey_record(struct loading *l, const struct records *records, struct mbl_error *e) {
    const struct options *o = l->r->options;
    (void)e; /* as load_record has it */
    for (size_t i = 0; i < records->cell_count; i++) {
        struct survey *s = &l->surveys[l->places[i]];
        const struct cell *cell = &records->cells[i];
        double v;
        if (is_na(o, cell)) continue;
        s->seen++;
        if (cell->list) {
            if (!s->lists++) s->list_line = records->line, s->list_file = mbl_arena_strdup(&l->arena, mbl_stream_name(records->stream));
            continue;
        }
        if (table_parse_number(cell->text, cell->length, &v)) {
            s->numbers++;
            if (v != floor(v)) s->fractions = true;
            else if (fabs(v) > EXACT_MOST) s->large = true;
        } else if (!s->stray_line) {
            s->stray_line = records->line;
            s->stray_file = mbl_arena_strdup(&l->arena, mbl_stream_name(records->stream));
            size_t n = cell->length < 40 ? cell->length : 40;
            while (n < cell->length && n > 0 && ((unsigned char)cell->text[n] & 0xc0) == 0x80) n--;
            memcpy(s->stray, cell->text, n);
        }
        if (s->distinct.count <= DISTINCT_MOST) dictionary_add(&s->distinct, cell->text, cell->length);
    }
    l->rows++;
    return 0;
}

static void load_text(struct column *c, const struct options *o, const struct cell *cell, size_t row) {
    bool missing = cell->missing || (!cell->quoted && is_na(o, cell));
    if (missing || c->missing) {
        size_t had = c->missing_cap;
        c->missing = mbl_grow(c->missing, &c->missing_cap, row + 1, sizeof *c->missing);
        memset(c->missing + had, 0, c->missing_cap - had);
        c->missing[row] = missing;
    }
    if (!missing) mbl_buf_add(&c->text, cell->text, cell->length);
    c->offsets = mbl_grow(c->offsets, &c->offset_cap, row + 2, sizeof *c->offsets);
    if (row == 0) c->offsets[0] = 0;
    c->offsets[row + 1] = (int64_t)c->text.len;
}

static int load_number(struct column *c, const struct records *records, const struct cell *cell, bool missing, size_t row,
                       struct mbl_error *e) {
    double v = NAN;
    if (!missing) table_parse_number(cell->text, cell->length, &v);
    c->numbers = mbl_grow(c->numbers, &c->number_cap, row + 1, sizeof *c->numbers);
    c->numbers[row] = (float)v;
    if (!isinf(c->numbers[row])) return 0;
    return mbl_error_set(e, "%s:%lld: column %s: %.*s is too large for float32", mbl_stream_name(records->stream), (long long)records->line,
                         c->name, (int)(cell->length < 40 ? cell->length : 40), cell->text);
}

/* A tag as the dataset has it: the rule may name those that the source has as numbers. NULL: it is none of them. */
static const char *tag_name(const struct names *tags, const char *tag) {
    double number;
    if (names_have(tags, tag)) return tag;
    bool fits = table_parse_number(tag, strlen(tag), &number) && number >= 0 && number < (double)tags->count && number == floor(number);
    return fits ? tags->items[(size_t)number] : NULL;
}

static int load_words(struct column *c, const struct options *o, const struct records *records, const struct cell *cell, size_t row,
                      struct mbl_error *e) {
    bool named = c->is_label && o->tags.count;
    struct cell bytes = {.text = "", .quoted = true, .missing = cell->missing || !cell->length};
    int64_t count = 0;
    if (!named) bytes.text = cell->text, bytes.length = cell->length;
    load_text(c, o, &bytes, row);
    for (const char *word = cell->text; word < cell->text + cell->length; word += strlen(word) + 1, count++) {
        const char *name = named ? tag_name(&o->tags, word) : NULL;
        if (named && !name)
            return mbl_error_set(e, "%s:%lld: \"%.60s\" is none of the tags that the rule names", mbl_stream_name(records->stream),
                                 (long long)records->line, word);
        if (named) mbl_buf_add(&c->text, name, strlen(name) + 1);
    }
    c->offsets[row + 1] = (int64_t)c->text.len;
    c->starts = mbl_grow(c->starts, &c->start_cap, row + 2, sizeof *c->starts);
    if (row == 0) c->starts[0] = 0;
    c->starts[row + 1] = c->starts[row] + count;
    return 0;
}

static int load_cell(struct loading *l, struct column *c, const struct records *records, const struct cell *cell, size_t row,
                     struct mbl_error *e) {
    const struct options *o = l->r->options;
    if (c->kind == MBL_TEXT) {
        load_text(c, o, cell, row);
        return 0;
    }
    if (c->kind == MBL_WORDS) return load_words(c, o, records, cell, row, e);
    bool missing = is_na(o, cell);
    if (c->kind == MBL_NUMERIC) return load_number(c, records, cell, missing, row, e);
    c->codes = mbl_grow(c->codes, &c->code_cap, row + 1, sizeof *c->codes);
    c->codes[row] = missing ? -1 : (int32_t)dictionary_add(&c->dictionary, cell->text, cell->length);
    if (c->dictionary.count > INT32_MAX - 1) return mbl_error_set(e, "column %s has too many categories", c->name);
    return 0;
}

/* A tag for each word. A row that lacks one of both is for `clean` to judge. */
static int check_tags(const struct table *t, const struct records *records, size_t row, struct mbl_error *e) {
    const struct column *words = table_words(t), *tags = table_label(t);
    if (!words || !tags || table_is_missing(words, row) || table_is_missing(tags, row)) return 0;
    int64_t n = words->starts[row + 1] - words->starts[row], m = tags->starts[row + 1] - tags->starts[row];
    if (n == m) return 0;
    return mbl_error_set(e, "%s:%lld: %s has %lld words, %s %lld tags", mbl_stream_name(records->stream), (long long)records->line,
                         words->name, (long long)n, tags->name, (long long)m);
}

static int load_record(struct loading *l, const struct records *records, struct mbl_error *e) {
    static const struct cell absent = {.text = "", .missing = true};
    struct table *t = l->table;
    size_t row = t->rows;
    for (size_t i = 0; i < records->cell_count; i++) {
        size_t at = l->places[i];
        l->filled[at] = row + 1;
        if (l->surveys[at].column && load_cell(l, l->surveys[at].column, records, &records->cells[i], row, e)) return -1;
    }
    for (size_t i = 0; i < l->count; i++) /* JSON Lines: what this one lacks is missing */
        if (l->surveys[i].column && l->filled[i] != row + 1 && load_cell(l, l->surveys[i].column, records, &absent, row, e)) return -1;
    if (l->words && check_tags(t, records, row, e)) return -1;
    t->lines = mbl_grow(t->lines, &t->line_cap, row + 1, sizeof *t->lines);
    t->lines[row] = records->line;
    t->rows++;
    return 0;
}

static int watch(const struct loading *l, size_t file, const struct mbl_stream *stream, struct mbl_error *e) {
    struct watcher *w = l->r->watcher;
    if (!w) return 0;
    double size = (double)mbl_stream_size(stream), part = size > 0 ? (double)mbl_stream_done(stream) / size : 1;
    double files = (double)l->r->path_count, done = ((double)l->pass + ((double)file + (part < 1 ? part : 1)) / files) / 2;
    return w->see(w, done, 1) ? mbl_error_set(e, "cancelled") : 0;
}

static int pass_file(struct loading *l, size_t file, int (*take)(struct loading *, const struct records *, struct mbl_error *),
                     struct mbl_error *e) {
    struct mbl_stream *stream;
    struct records *records;
    size_t before = l->count;
    if (mbl_stream_open(l->r->paths[file], &stream, e)) return -1;
    if (l->open(stream, l->r->options, &records, e)) return -1;
    l->placed = 0;
    place_columns(l, records);
    int got = check_columns(l, records, before, e) ? -1 : 1;
    for (size_t n = 0; got > 0 && (got = records->next(records, e)) > 0; n++) {
        place_columns(l, records);
        if (take(l, records, e) || (n % WATCH_EACH == 0 && watch(l, file, stream, e))) got = -1;
    }
    records->close(records);
    return got;
}

/* -- between the passes */

static int stray_cell(const struct survey *s, const char *name, struct mbl_error *e) {
    return mbl_error_set(e,
                         "%s:%lld: column %s holds numbers, but \"%s\" is none (%zu such cell%s); correct it, or name it in clean.na if it "
                         "means missing, or "
                         "the column in `category` if it holds words",
                         s->stray_file, (long long)s->stray_line, name, s->stray, s->seen - s->numbers,
                         s->seen - s->numbers == 1 ? "" : "s");
}

/* A column of lists: the words, or a tag for each of them. */
static int decide_lists(const struct loading *l, struct survey *s, const char *name, struct mbl_error *e) {
    const struct options *o = l->r->options;
    if (s->lists < s->seen)
        return mbl_error_set(e, "%s:%lld: \"%.100s\" is a list, but not so in every row", s->list_file, (long long)s->list_line, name);
    if (s->use == COLUMN_GROUP || names_have(&o->text, name) || names_have(&o->category, name))
        return mbl_error_set(e, "%s:%lld: \"%.100s\" is a list: it may be words, or a label of tags", s->list_file,
                             (long long)s->list_line, name);
    if (s->use == COLUMN_LABEL && !l->words)
        return mbl_error_set(e, "%s:%lld: the label %.100s is a list of tags, but there is no list of words", s->list_file,
                             (long long)s->list_line, name);
    s->kind = MBL_WORDS;
    return 0;
}

/* Lists are no features of users and items. One that is a list in some rows alone, or that the rule names, is for decide_lists to refuse. */
static void leave_out_lists(struct loading *l) {
    for (size_t i = 0; i < l->count; i++) {
        struct survey *s = &l->surveys[i];
        const char *name = l->names.names[i];
        if (!s->lists || s->lists < s->seen || s->use != COLUMN_FEATURE || names_have(&l->r->options->category, name)) continue;
        s->use = COLUMN_UNUSED;
        if (l->r->note) l->r->note(l->r, mbl_arena_printf(&l->arena, "column %s is left out: it holds lists", name));
    }
}

/* Which list holds the words: the one that the rule names, or that is called so, or the only one. Others are left out. */
static int find_words(struct loading *l, struct mbl_error *e) {
    static const char *const usual[] = {"tokens", "words", "word", "form"};
    const char *names = NULL;
    size_t count = 0;
    if (l->r->options->no_lists) {
        leave_out_lists(l);
        return 0;
    }
    l->words = l->r->options->words;
    for (size_t i = 0; i < l->count; i++) {
        const struct survey *s = &l->surveys[i];
        bool named = l->words && !strcmp(l->words, l->names.names[i]);
        if (named && s->use != COLUMN_FEATURE) return mbl_error_set(e, "words: column %.100s has another use", l->words);
        if (named && !s->lists) return mbl_error_set(e, "%s: words: column %.100s holds no lists", l->r->paths[0], l->words);
        if (!s->lists || s->use != COLUMN_FEATURE) continue;
        names = names ? mbl_arena_printf(&l->arena, "%s, %s", names, l->names.names[i]) : l->names.names[i];
        count++;
    }
    for (size_t k = 0; !l->words && k < sizeof usual / sizeof *usual; k++)
        for (size_t i = 0; i < l->count; i++)
            if (l->surveys[i].lists && l->surveys[i].use == COLUMN_FEATURE && !strcmp(usual[k], l->names.names[i])) l->words = usual[k];
    if (!l->words && count > 1)
        return mbl_error_set(e, "%s: which column has the words? words = \"…\" must name one of %s", l->r->paths[0], names);
    if (!l->words) l->words = names;
    for (size_t i = 0; i < l->count; i++)
        if (l->surveys[i].lists && l->surveys[i].use == COLUMN_FEATURE && strcmp(l->names.names[i], l->words))
            l->surveys[i].use = COLUMN_UNUSED;
    return 0;
}

static int decide_label(const struct options *o, struct survey *s, const char *name, struct mbl_error *e) {
    bool numbers = s->numbers == s->seen;
    s->kind = read_are_classes(o, numbers, !s->fractions, s->distinct.count, s->seen) ? MBL_CATEGORY : MBL_NUMERIC;
    if (s->kind == MBL_CATEGORY || numbers) return 0;
    return mbl_error_set(e, "%s:%lld: the label %s must be a number for regression; found \"%s\"", s->stray_file, (long long)s->stray_line,
                         name, s->stray);
}

static int decide_kind(struct loading *l, struct survey *s, const char *name, struct mbl_error *e) {
    const struct options *o = l->r->options;
    size_t strays = s->seen - s->numbers;
    if (s->lists) return decide_lists(l, s, name, e);
    if (s->use == COLUMN_LABEL && l->words)
        return mbl_error_set(e, "%s: the label %.100s is no list; where there are words (%.100s) it has a tag for each", l->r->paths[0],
                             name, l->words);
    if (s->use == COLUMN_LABEL) return decide_label(o, s, name, e);
    if (!strcmp(o->format, "text") || names_have(&o->text, name)) s->kind = MBL_TEXT;
    else if (s->use == COLUMN_GROUP || names_have(&o->category, name)) s->kind = MBL_CATEGORY;
    else if (!strays) s->kind = MBL_NUMERIC;
    else if (strays <= s->seen / STRAY_SHARE) return stray_cell(s, name, e);
    else s->kind = s->distinct.count <= DISTINCT_MOST ? MBL_CATEGORY : MBL_TEXT;
    if (!l->r->note) return 0;
    char *note = NULL;
    if (s->kind == MBL_NUMERIC && s->large) note = mbl_printf("column %s: integers beyond 2^24 are rounded to float32", name);
    if (s->kind == MBL_NUMERIC && !s->seen) note = mbl_printf("column %s has no values at all", name);
    if (s->kind == MBL_TEXT && s->numbers < s->seen && !names_have(&o->text, name) && strcmp(o->format, "text"))
        note = mbl_printf("column %s has more than %d different values: taken as text, which is no feature", name, DISTINCT_MOST);
    if (note) l->r->note(l->r, note);
    free(note);
    return 0;
}

static int decide_columns(struct loading *l, struct mbl_error *e) {
    struct table *t = l->table;
    enum column_use *uses = mbl_arena_alloc(&l->arena, (l->count + 1) * sizeof *uses);
    if (!l->rows) return mbl_error_set(e, "%s has no rows", l->r->paths[0]);
    if (read_uses(l->r->options, l->names.names, l->count, l->r->paths[0], uses, e)) return -1;
    t->columns = mbl_arena_alloc(&t->arena, (l->count + 1) * sizeof *t->columns);
    for (size_t i = 0; i < l->count; i++) l->surveys[i].use = uses[i];
    if (find_words(l, e)) return -1;
    for (size_t i = 0; i < l->count; i++) {
        struct survey *s = &l->surveys[i];
        if (s->use == COLUMN_UNUSED) continue;
        if (decide_kind(l, s, l->names.names[i], e)) return -1;
        s->column = &t->columns[t->column_count++];
        *s->column = (struct column){.name = mbl_arena_strdup(&t->arena, l->names.names[i]),
                                     .kind = s->kind,
                                     .width = s->kind == MBL_NUMERIC ? 1 : 0,
                                     .is_label = s->use == COLUMN_LABEL,
                                     .is_group = s->use == COLUMN_GROUP};
    }
    return 0;
}

int read_records(struct reading *r, int (*open)(struct mbl_stream *, const struct options *, struct records **, struct mbl_error *),
                 struct table *out, struct mbl_error *e) {
    struct loading l = {.r = r, .open = open, .table = out};
    int failed = 0;
    for (size_t i = 0; i < r->path_count && !failed; i++) failed = pass_file(&l, i, survey_record, e);
    if (!failed) failed = decide_columns(&l, e);
    out->files = mbl_arena_alloc(&out->arena, r->path_count * sizeof *out->files);
    out->file_starts = mbl_arena_alloc(&out->arena, r->path_count * sizeof *out->file_starts);
    l.filled = mbl_alloc(l.count * sizeof *l.filled);
    l.pass = 1;
    for (size_t i = 0; i < r->path_count && !failed; i++) {
        out->files[i] = mbl_arena_strdup(&out->arena, r->paths[i]);
        out->file_starts[i] = out->rows;
        out->file_count++;
        failed = pass_file(&l, i, load_record, e);
    }
    for (size_t i = 0; i < l.count; i++) dictionary_free(&l.surveys[i].distinct);
    dictionary_free(&l.names);
    free(l.filled);
    free(l.surveys);
    free(l.places);
    mbl_arena_free(&l.arena);
    return failed;
}
