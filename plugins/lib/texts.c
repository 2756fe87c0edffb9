/* texts.c: see texts.h. */
#include "texts.h"
#include "words.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SETTINGS "texts.json"
#define LONGEST_ROW ((int64_t)1 << 20)

static int read_settings(struct mbl_texts *t, const char *path, struct mbl_error *e) {
    struct mbl_json *table;
    if (access(path, F_OK)) return 0;
    if (mbl_json_read(path, &t->arena, &table, e)) return -1;
    const struct mbl_json *columns = mbl_json_get(table, "columns");
    size_t count = columns && columns->type == MBL_JSON_LIST ? columns->count : 0;
    if (count > MBL_TEXT_COLUMNS) return mbl_error_set(e, "%s: columns: one or two expected, found %zu", path, count);
    for (size_t i = 0; i < count; i++) {
        if (columns->items[i]->type != MBL_JSON_STRING) return mbl_error_set(e, "%s: columns: entry %zu is no name", path, i + 1);
        t->columns[i] = columns->items[i]->string;
    }
    t->length = mbl_json_get_int(table, "max_length", 0);
    if (t->length < 0 || t->length > LONGEST_ROW)
        return mbl_error_set(e, "%s: max_length is %lld; 0 to %lld expected", path, (long long)t->length, (long long)LONGEST_ROW);
    t->join = mbl_json_get_string(table, "join");
    const char *tagged = mbl_json_get_string(table, "subwords");
    if (tagged && strcmp(tagged, "all") && strcmp(tagged, "first"))
        return mbl_error_set(e, "%s: subwords is \"%.60s\"; \"first\" or \"all\" expected", path, tagged);
    t->every_part = tagged && !strcmp(tagged, "all");
    return 0;
}

struct mbl_texts *mbl_texts_new(void) {
    return mbl_alloc(sizeof(struct mbl_texts));
}

int mbl_texts_open(const char *folder, struct mbl_texts **out, struct mbl_error *e) {
    static const char *const files[] = {"tokenizer.json", "vocab.txt", "vocab.json"};
    struct mbl_texts *t = mbl_texts_new();
    bool found = false;
    *out = NULL;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) found |= !access(mbl_path_join(&t->arena, folder, files[i]), F_OK);
    if (found && (mbl_tokenizer_open(folder, &t->tokenizer, e) || read_settings(t, mbl_path_join(&t->arena, folder, SETTINGS), e))) {
        mbl_texts_free(t);
        return -1;
    }
    if (found) *out = t;
    else mbl_texts_free(t);
    return 0;
}

int mbl_texts_save(const struct mbl_texts *t, const char *folder, struct mbl_error *e) {
    struct mbl_arena arena = {0};
    struct mbl_json *table = mbl_json_table(&arena), *columns = mbl_json_list(&arena);
    for (int i = 0; i < MBL_TEXT_COLUMNS && t->columns[i]; i++) mbl_json_push(&arena, columns, mbl_json_string(&arena, t->columns[i]));
    mbl_json_set(&arena, table, "columns", columns);
    mbl_json_set(&arena, table, "max_length", mbl_json_int(&arena, t->length));
    if (t->join) mbl_json_set(&arena, table, "join", mbl_json_string(&arena, t->join));
    if (t->every_part) mbl_json_set(&arena, table, "subwords", mbl_json_string(&arena, "all"));
    int status = mbl_tokenizer_save(t->tokenizer, folder, e) || mbl_json_save(mbl_path_join(&arena, folder, SETTINGS), table, e) ? -1 : 0;
    mbl_arena_free(&arena);
    return status;
}

void mbl_texts_free(struct mbl_texts *t) {
    if (!t) return;
    mbl_tokenizer_free(t->tokenizer);
    mbl_arena_free(&t->arena);
    free(t);
}

static const struct mbl_text_column *find_column(const struct mbl_dataset *d, const char *name) {
    for (size_t i = 0; i < d->text_count; i++)
        if (!strcmp(d->texts[i].name, name)) return &d->texts[i];
    return NULL;
}

/* "a, b" for messages. */
static const char *column_names(const struct mbl_dataset *d, struct mbl_arena *a) {
    const char *all = d->texts[0].name;
    for (size_t i = 1; i < d->text_count; i++) all = mbl_arena_printf(a, "%s, %s", all, d->texts[i].name);
    return all;
}

int mbl_texts_columns(struct mbl_texts *t, const struct mbl_dataset *d, const struct mbl_text_column *out[MBL_TEXT_COLUMNS],
                      struct mbl_error *e) {
    out[0] = out[1] = NULL;
    if (!d->text_count)
        return mbl_error_set(e, "part \"%s\" has no column of text; give the dataset text = { \"column\" }, or format = \"text\"", d->part);
    if (!t->columns[0] && d->text_count > MBL_TEXT_COLUMNS)
        return mbl_error_set(e, "which column is the text? text = { … } must name one, or two for a pair: there are %s",
                             column_names(d, &t->arena));
    for (size_t i = 0; !t->columns[0] && i < d->text_count; i++) out[i] = &d->texts[i];
    for (int i = 0; i < MBL_TEXT_COLUMNS && t->columns[i]; i++) {
        out[i] = find_column(d, t->columns[i]);
        if (!out[i])
            return mbl_error_set(e, "part \"%s\" has no column of text named \"%.100s\"; it has %s", d->part, t->columns[i],
                                 column_names(d, &t->arena));
    }
    for (int i = 0; i < MBL_TEXT_COLUMNS && out[i]; i++) t->columns[i] = mbl_arena_strdup(&t->arena, out[i]->name);
    return 0;
}

static int learn_from_words(struct mbl_texts *t, const struct mbl_dataset *d, const struct mbl_tokenizer_training *o, struct mbl_error *e) {
    struct mbl_words words;
    int status = mbl_words_open(&words, t, d, e);
    if (!status) status = mbl_tokenizer_train(o, words.words, (size_t)words.count, &t->tokenizer, e);
    mbl_words_close(&words);
    return status;
}

int mbl_texts_learn(struct mbl_texts *t, const struct mbl_dataset *d, const struct mbl_tokenizer_training *o, struct mbl_error *e) {
    const struct mbl_text_column *columns[MBL_TEXT_COLUMNS];
    void *p;
    if (d->words.name && (!t->columns[0] || !strcmp(t->columns[0], d->words.name))) return learn_from_words(t, d, o, e);
    if (mbl_texts_columns(t, d, columns, e)) return -1;
    size_t width = columns[1] ? 2 : 1, count = width * (size_t)d->rows;
    if (mbl_try_alloc(&p, count, sizeof(struct mbl_text), "the texts", e)) return -1;
    struct mbl_text *texts = p;
    for (size_t i = 0; i < count; i++) {
        const struct mbl_text_column *c = columns[i % width];
        const int64_t *at = c->offsets + i / width;
        texts[i] = (struct mbl_text){c->bytes + at[0], (size_t)(at[1] - at[0])};
    }
    int status = mbl_tokenizer_train(o, texts, count, &t->tokenizer, e);
    free(texts);
    return status;
}
