/* tags.c: a class for each word: the formats that such data come in, what tags say of entities (against what seqeval said, recorded by
 * tags_seqeval.py), and where a word's label stands among its tokens. */
#include "fake_host.h"
#include "lib/tagging.h"
#include "lib/tokens.h"

#include <math.h>
#include <stdlib.h>

static struct fake fake;
static struct mbl_dataset data;
static struct mbl_error e;
static struct mbl_arena arena;

static const char *write_text(const char *name, const char *text) {
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", test_folder(), name);
    FILE *f = fopen(path, "wb");
    CHECK(f && fwrite(text, 1, strlen(text), f) == strlen(text) && !fclose(f));
    return path;
}

static int make(const char *source, const char *text, const char *params) {
    mbl_arena_free(&fake.arena);
    fake_open(&fake, "dataset", params);
    fake_path(&fake, "from", mbl_arena_strdup(&arena, write_text(source, text)));
    fake_path(&fake, "all", mbl_arena_printf(&arena, "%s/all", test_folder()));
    return fake_run(&fake);
}

static void good(const char *source, const char *text, const char *params) {
    CHECKF(make(source, text, params) == MB_OK, "the step failed: %s", fake.message);
    mbl_dataset_close(&data);
    if (mbl_dataset_open(mbl_arena_printf(&arena, "%s/all", test_folder()), &data, &e)) FAIL("%s", e.text);
}

/* A text that lasts as long as the tests. */
static const char *settled(struct mbl_buf *text) {
    const char *copy = mbl_arena_strdup(&arena, mbl_buf_str(text));
    mbl_buf_free(text);
    return copy;
}

/* "EU/B-ORG rejects/O | Peter/B-PER", with a line's number in front of each row. */
static const char *told(void) {
    struct mbl_buf out = {0};
    const struct mbl_word_column *w = &data.words;
    for (int64_t r = 0; r < data.rows; r++) {
        mbl_buf_addf(&out, "%s%lld:", r ? " | " : "", (long long)data.lines[r]);
        for (int64_t i = w->rows[r]; i < w->rows[r + 1]; i++)
            mbl_buf_addf(&out, " %.*s/%s", (int)(w->offsets[i + 1] - w->offsets[i]), w->bytes + w->offsets[i],
                         data.labels ? data.schema.classes[data.labels[i]] : "");
    }
    return settled(&out);
}

/* -- sources */

TEST("column files become sentences of words, each word with its tag and each sentence with its line") {
    good("a.conll", "-DOCSTART- -X- O\n\nEU NNP B-ORG\nrejects  VBZ O \r\n\n \n\nPeter NNP B-PER\nBlackburn NNP I-PER",
         "{\"format\": \"conll\", \"label\": \"tag\"}");
    CHECK_STR(told(), "3: EU/B-ORG rejects/O | 8: Peter/B-PER Blackburn/I-PER");
    CHECK_EQ(data.schema.task, MBL_TAGGING);
    CHECK_STR(data.schema.scheme, "iob2");
    CHECK_STR(data.words.name, "word");
    good("b.tsv", "New York\tLOC\nis\tO\n\nbig\tO\n", "{\"format\": \"conll\", \"columns\": [\"w\", \"t\"], \"label\": -1}");
    CHECK_STR(told(), "1: New York/LOC is/O | 4: big/O");
    CHECK_STR(data.schema.scheme, "plain");
    good("c", "a b\nc d\n", "{\"format\": \"conll\"}");
    CHECK(!data.labels && data.schema.task == MBL_NO_TASK);
    CHECK_STR(told(), "1: a/ c/");
}

TEST("of CoNLL-U comments, ranges and empty words are left out, and the label is any of its columns") {
    good("a.conllu",
         "# sent_id = 1\n1-2\tdel\t_\t_\t_\t_\t_\t_\t_\t_\n1\tde\tde\tADP\t_\t_\t3\tcase\t_\t_\n2\tel\tel\tDET\t_\t_\t3\tdet\t_\t_\n"
         "2.1\tx\tx\tX\t_\t_\t3\tdet\t_\t_\n3\tmar azul\tmar\tNOUN\t_\t_\t0\troot\t_\t_\n\n",
         "{\"format\": \"conllu\", \"label\": \"upos\"}");
    CHECK_STR(told(), "3: de/ADP el/DET mar azul/NOUN");
    CHECK_EQ(data.schema.class_count, 3);
}

TEST("lists in JSON Lines are words and tags, whose numbers the rule may name") {
    static const char rows[] = "{\"id\": 7, \"tokens\": [\"a\", \"\", \"b c\"], \"ner_tags\": [0, 2, 1], \"pos\": [\"X\", \"Y\", \"Z\"]}\n"
                               "{\"id\": 8, \"tokens\": [\"d\"], \"ner_tags\": [0], \"pos\": [\"X\"]}\n";
    good("a.jsonl", rows, "{\"label\": \"ner_tags\", \"ignore\": [\"id\"], \"tags\": [\"O\", \"B-X\", \"I-X\", \"B-Y\"]}");
    CHECK_STR(told(), "1: a/O /I-X b c/B-X | 2: d/O");
    CHECK_EQ(data.schema.class_count, 4); /* also those that no word has, in the rule's order */
    CHECK_STR(data.schema.classes[3], "B-Y");
    CHECK_EQ(data.schema.features, 0);
    good("a.jsonl", rows, "{\"label\": \"pos\", \"words\": \"tokens\", \"ignore\": [\"id\"]}");
    CHECK_STR(told(), "1: a/X /Y b c/Z | 2: d/X");
    good("a.jsonl", rows, "{\"label\": \"ner_tags\", \"ignore\": [\"id\"]}");
    CHECK_STR(told(), "1: a/0 /2 b c/1 | 2: d/0");
}

static const struct refusal {
    const char *name, *text, *params, *message;
} refused[] = {
    {"a", "a b\nc\n", "{\"format\": \"conll\"}", "/a:2: found 1 field, expected 2 as in the lines before"},
    {"a", "a\t\n", "{\"format\": \"conll\"}", "/a:1: column tag is empty"},
    {"a", "a b\n", "{\"format\": \"conll\", \"columns\": [\"x\"]}", "/a:1: the rule names 1 columns; found 2 fields"},
    {"a", "1 a b\n", "{\"format\": \"conllu\"}", "/a:1: 1 fields between tabs; CoNLL-U has ten"},
    {"a", "\n\n", "{\"format\": \"conll\"}", "has no rows"},
    {"a", "a B-X\n\nb I-X\nc Q\n", "{\"format\": \"conll\", \"label\": \"tag\", \"scheme\": \"iob2\"}",
     "scheme = \"iob2\": broken by 1 row\n  "},
    {"a", "a B-X\n\nb I-X\nc Q\n", "{\"format\": \"conll\", \"label\": \"tag\", \"scheme\": \"iob2\"}", "the tag of word 2 is \"Q\""},
    {"a", "a 7\n", "{\"format\": \"conll\", \"label\": \"tag\", \"tags\": [\"x\"]}", "/a:1: \"7\" is none of the tags that the rule names"},
    {"a.jsonl", "{\"tokens\": [\"a\", \"b\"], \"tags\": [\"x\"]}\n", "{\"label\": \"tags\"}", "a.jsonl:1: tokens has 2 words, tags 1 tags"},
    {"a.jsonl", "{\"a\": [\"a\"], \"b\": [\"x\"]}\n", "{}", "which column has the words? words = \"…\" must name one of a, b"},
    {"a.jsonl", "{\"tokens\": [\"a\", null]}\n", "{}", "\"tokens\": entry 2 is null; strings and numbers are understood in a list"},
    {"a.jsonl", "{\"tokens\": [[1]]}\n", "{}", "\"tokens\": entry 1 is a list"},
    {"a.jsonl", "{\"tokens\": [\"a\"], \"n\": 1}\n", "{\"label\": \"n\"}", "the label n is no list; where there are words (tokens) it has a tag"},
    {"a.jsonl", "{\"tags\": [\"a\"], \"n\": 1}\n", "{\"label\": \"tags\"}", "the label tags is a list of tags, but there is no list of words"},
    {"a.jsonl", "{\"tokens\": [\"a\"]}\n{\"tokens\": []}\n", "{}", "a.jsonl:2: tokens is missing"},
    {"a.jsonl", "{\"tokens\": [\"a\"]}\n", "{\"words\": \"tocens\"}", "words: there is no column \"tocens\"; there is tokens"},
    {"a.jsonl", "{\"tokens\": [\"a\"]}\n", "{\"text\": [\"tokens\"]}", "\"tokens\" is a list: it may be words, or a label of tags"},
    {"a.jsonl", "{\"tokens\": [\"a\"], \"tags\": [\"x\"]}\n", "{\"label\": \"tags\", \"expect\": {\"classes\": [\"y\"]}}",
     "class \"x\" is not among the expected"},
};

static void refuse(const void *argument) {
    const struct refusal *r = argument;
    CHECK(make(r->name, r->text, r->params) != MB_OK);
    CHECK_CONTAINS(fake.message, r->message);
}
TEST_TABLE {
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        test_add(refuse, &refused[i], "words are refused: %s (%zu)", refused[i].message, i);
}

TEST("copies of a sentence are found, and what lacks words is dropped if the rule says so") {
    good("a.jsonl",
         "{\"tokens\": [\"a\", \"b\"], \"tags\": [\"x\", \"y\"]}\n{\"tokens\": [], \"tags\": []}\n{\"tokens\": [\"a\", \"b\"], \"tags\": [\"x\", \"z\"]}\n"
         "{\"tokens\": [\"a\", \"b\"], \"tags\": [\"x\", \"y\"]}\n{\"tags\": [\"w\"]}\n",
         "{\"label\": \"tags\", \"clean\": {\"missing\": \"drop\", \"duplicates\": \"drop\"}}");
    CHECK_STR(told(), "1: a/x b/y | 3: a/x b/z");
    CHECK_EQ(data.schema.class_count, 3); /* w is gone with its row */
}

/* -- entities */

static const char *const *names_of(const struct mbl_json *list) {
    const char **names = mbl_arena_alloc(&arena, (list->count + 1) * sizeof *names);
    for (size_t i = 0; i < list->count; i++) names[i] = list->items[i]->string;
    return names;
}

static int32_t class_of(const struct mbl_schema *s, const char *name) {
    for (size_t i = 0; i < s->class_count; i++)
        if (!strcmp(s->classes[i], name)) return (int32_t)i;
    FAIL("there is no tag %s", name);
}

static int32_t *ids_of(const struct mbl_schema *s, const struct mbl_json *rows, int64_t *starts) {
    int32_t *ids = mbl_arena_alloc(&arena, 4096 * sizeof *ids);
    int64_t n = 0;
    for (size_t r = 0; r < rows->count; r++) {
        for (size_t i = 0; i < rows->items[r]->count; i++) ids[n++] = class_of(s, rows->items[r]->items[i]->string);
        starts[r + 1] = n;
    }
    return ids;
}

static void check_figures(const char *what, const struct mbl_json *expected, double precision, double recall, double f1) {
    const double found[] = {precision, recall, f1};
    for (int i = 0; i < 3; i++)
        CHECKF(fabs(found[i] - mbl_json_number(expected->items[i])) < 1e-12, "%s: figure %d is %.15g, seqeval says %.15g", what, i, found[i],
               mbl_json_number(expected->items[i]));
}

TEST("entities are found and scored as seqeval does it, by conlleval's rules and strictly, in every scheme") {
    static const char *const names[] = {"iob1", "iob2", "bioes", "bilou"};
    struct mbl_json *recorded;
    if (mbl_json_read(test_source("tests/plugins/data/tags.json"), &arena, &recorded, &e)) FAIL("%s", e.text);
    for (int i = 0; i < 4; i++) {
        const struct mbl_json *r = mbl_json_get(recorded, names[i]), *tags = mbl_json_get(r, "tags"), *averages = mbl_json_get(r, "averages");
        struct mbl_schema schema = {.task = MBL_TAGGING, .classes = names_of(tags), .class_count = tags->count, .scheme = names[i]};
        struct mbl_tagset set;
        struct mbl_scores s;
        int64_t starts[64] = {0};
        mbl_tagset_open(&schema, &arena, &set);
        CHECK_STR(mbl_scheme_name(set.scheme), names[i]);
        if (i) CHECK_EQ(mbl_scheme_by_names(schema.classes, schema.class_count), set.scheme);
        int32_t *truth = ids_of(&schema, mbl_json_get(r, "truth"), starts), *guess = ids_of(&schema, mbl_json_get(r, "guess"), starts);
        if (mbl_score_tags(&set, &schema, 40, starts, truth, guess, starts[40], 0, &arena, &s, &e)) FAIL("%s", e.text);
        CHECK_NEAR(s.accuracy, mbl_json_get_float(r, "accuracy", 0), 1e-12);
        check_figures("micro", mbl_json_get(averages, "micro avg"), s.precision_micro, s.recall_micro, s.f1_micro);
        check_figures("macro", mbl_json_get(averages, "macro avg"), s.precision_macro, s.recall_macro, s.f1_macro);
        check_figures("weighted", mbl_json_get(averages, "weighted avg"), s.precision_weighted, s.recall_weighted, s.f1_weighted);
        check_figures("strict", mbl_json_get(r, "strict"), s.precision_strict, s.recall_strict, s.f1_strict);
        const struct mbl_json *classes = mbl_json_get(r, "per_class");
        CHECK_EQ(s.class_count, classes->count);
        for (size_t c = 0; c < s.class_count; c++) {
            const struct mbl_json *k = mbl_json_get(classes, s.class_names[c]);
            check_figures(s.class_names[c], k, s.classes[c].precision, s.classes[c].recall, s.classes[c].f1);
            CHECK_EQ(s.classes[c].support, (int64_t)mbl_json_number(k->items[3]));
        }
    }
}

TEST("plain tags are judged word by word, and words that were cut off are wrong") {
    static const char *const names[] = {"DET", "NOUN", "VERB"};
    struct mbl_schema schema = {.task = MBL_TAGGING, .classes = names, .class_count = 3};
    struct mbl_tagset set;
    struct mbl_scores s;
    mbl_tagset_open(&schema, &arena, &set);
    CHECK_EQ(set.scheme, MBL_PLAIN);
    if (mbl_score_tags(&set, &schema, 2, (int64_t[]){0, 3, 5}, (int32_t[]){0, 1, 2, 1, 1}, (int32_t[]){0, 1, 1, 1, -1}, 4, 2.0, &arena, &s, &e))
        FAIL("%s", e.text);
    CHECK_NEAR(s.accuracy, 3.0 / 5, 1e-15);
    CHECK_NEAR(s.loss, 0.5, 1e-15);
    CHECK_NEAR(s.classes[1].precision, 2.0 / 3, 1e-15); /* of DET NOUN NOUN NOUN - the NOUNs are 2 of 3 guesses, 2 of 3 truths */
    CHECK_NEAR(s.classes[1].recall, 2.0 / 3, 1e-15);
    CHECK_NEAR(s.classes[2].f1, 0, 0);
    CHECK_NEAR(s.recall_weighted, 3.0 / 5, 1e-15);
    CHECK(isnan(s.f1_strict));
}

TEST("a scheme is told by its tags' letters, and what is no letter and type is plain") {
    static const struct {
        const char *tags[4];
        enum mbl_scheme scheme;
    } rows[] = {{{"O", "B-X", "I-X"}, MBL_IOB2}, {{"O", "S-X"}, MBL_BIOES}, {{"L-X", "U-X", "O"}, MBL_BILOU}, {{"O"}, MBL_PLAIN},
                {{"B", "I", "O"}, MBL_PLAIN}, {{"B-X", "X"}, MBL_PLAIN}, {{"I", "PRON"}, MBL_PLAIN}, {{"B-X", "E-X", "U-X"}, MBL_PLAIN}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t n = 0;
        while (n < 4 && rows[i].tags[n]) n++;
        CHECK_EQ(mbl_scheme_by_names(rows[i].tags, n), rows[i].scheme);
    }
}

/* -- tokens */

/* A WordPiece tokenizer of "un", "##aff", "##able", "no", "new", "york", with BERT's frame. */
static struct mbl_texts *small_texts(void) {
    static const char json[] =
        "{\"added_tokens\":[],\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\"post_processor\":{\"type\":"
        "\"BertProcessing\",\"sep\":[\"[SEP]\",2],\"cls\":[\"[CLS]\",1]},\"decoder\":null,\"model\":{\"type\":\"WordPiece\",\"unk_token\":"
        "\"[UNK]\",\"continuing_subword_prefix\":\"##\",\"max_input_chars_per_word\":100,\"vocab\":{\"[UNK]\":0,\"[CLS]\":1,\"[SEP]\":2,"
        "\"un\":3,\"##aff\":4,\"##able\":5,\"no\":6,\"new\":7,\"york\":8,\",\":9}}}";
    struct mbl_texts *x = mbl_texts_new();
    if (mbl_tokenizer_parse(json, strlen(json), "tokenizer.json", &x->tokenizer, &e)) FAIL("%s", e.text);
    return x;
}

/* "1:-100 7:0 …": ids and labels of all rows, and the words that the tokens are the first of. */
static const char *labelled(const struct mbl_tokens *t) {
    struct mbl_buf out = {0};
    for (int64_t r = 0; r < t->rows; r++)
        for (int64_t i = t->starts[r]; i < t->starts[r + 1]; i++) {
            mbl_buf_addf(&out, "%s%d", !i ? "" : i == t->starts[r] ? " | " : " ", t->ids[i]);
            if (t->labels && t->labels[i] != MBL_NO_LABEL) mbl_buf_addf(&out, ":%s", data.schema.classes[t->labels[i]]);
            if (t->firsts[i] >= 0) mbl_buf_addf(&out, "@%d", t->firsts[i]);
        }
    return settled(&out);
}

static void open_tokens(struct mbl_tokens *t, struct mbl_texts *x, int64_t length) {
    if (mbl_tokens_open(t, x, &data, MBL_TOKEN_CLASSES, length, &data.schema, &e)) FAIL("%s", e.text);
}

TEST("a word's label stands at its first token, or at all of them, B- once; rows are cut to their length") {
    struct mbl_texts *x = small_texts();
    struct mbl_tokens t;
    good("a", "new B-LOC\nyork I-LOC\nunaffable B-X\n\nno O\nnew,york I-X\n", "{\"format\": \"conll\", \"label\": \"tag\"}");
    open_tokens(&t, x, 16);
    CHECK_STR(labelled(&t), "1 7:B-LOC@0 8:I-LOC@1 3:B-X@2 4 5 2 | 1 6:O@3 7:I-X@4 9 8 2");
    CHECK_EQ(t.cut, 0);
    mbl_tokens_close(&t);
    x->every_part = true;
    open_tokens(&t, x, 16);
    CHECK_STR(labelled(&t), "1 7:B-LOC@0 8:I-LOC@1 3:B-X@2 4:I-X 5:I-X 2 | 1 6:O@3 7:I-X@4 9:I-X 8:I-X 2");
    mbl_tokens_close(&t);
    x->every_part = false;
    open_tokens(&t, x, 4);
    CHECK_STR(labelled(&t), "1 7:B-LOC@0 8:I-LOC@1 2 | 1 6:O@3 7:I-X@4 2");
    CHECK_EQ(t.cut, 2);
    int32_t labels[8];
    CHECK_EQ(mbl_tokens_labels(&t, NULL, 1, 1, 4, labels), 2);
    CHECK_EQ(labels[0], MBL_NO_LABEL);
    CHECK_EQ(labels[1], class_of(&data.schema, "O"));
    mbl_tokens_close(&t);
    mbl_texts_free(x);
}

TEST("tags are the model's by name, and one that it doesn't know is refused") {
    struct mbl_texts *x = small_texts();
    struct mbl_tokens t;
    struct mbl_schema model = {.task = MBL_TAGGING, .classes = (const char *const[]){"O", "I-LOC", "B-LOC", "B-PER"}, .class_count = 4};
    good("a", "new B-LOC\nyork I-LOC\n", "{\"format\": \"conll\", \"label\": \"tag\"}");
    if (mbl_tokens_open(&t, x, &data, MBL_TOKEN_CLASSES, 8, &model, &e)) FAIL("%s", e.text);
    CHECK(t.tags[0] == 2 && t.tags[1] == 1 && t.labels[1] == 2 && t.labels[2] == 1);
    mbl_tokens_close(&t);
    model.class_count = 2;
    CHECK(mbl_tokens_open(&t, x, &data, MBL_TOKEN_CLASSES, 8, &model, &e));
    CHECK_CONTAINS(e.text, "the model doesn't know the tag \"B-LOC\"");
    mbl_tokens_close(&t);
    mbl_texts_free(x);
}

TEST("plain text is parted at white space and punctuation, and words know their place in it") {
    struct mbl_texts *x = small_texts();
    struct mbl_tokens t;
    struct mbl_buf text = {0};
    int64_t begins[8], ends[8];
    good("a.txt", "no \xc3\xa9t\xc3\xa9, new\xc2\xa0york!\n", "{\"format\": \"text\"}");
    open_tokens(&t, x, 16);
    CHECK_EQ(t.words.count, 6);
    CHECK(!t.labels && !t.tags);
    CHECK_STR(labelled(&t), "1 6@0 0@1 9@2 7@3 8@4 0@5 2");
    mbl_words_text(&t.words, 0, &text, begins, ends);
    CHECK_STR(mbl_buf_str(&text), "no \xc3\xa9t\xc3\xa9, new\xc2\xa0york!");
    CHECK(begins[1] == 3 && ends[1] == 6 && begins[2] == 6 && ends[2] == 7 && begins[4] == 12 && ends[4] == 16 && ends[5] == 17);
    mbl_tokens_close(&t);
    text.len = 0;
    good("b", "\xc3\xa9t\xc3\xa9 O\nnew O\n", "{\"format\": \"conll\", \"label\": \"tag\"}");
    x->columns[0] = NULL;
    open_tokens(&t, x, 16);
    mbl_words_text(&t.words, 0, &text, begins, ends);
    CHECK_STR(mbl_buf_str(&text), "\xc3\xa9t\xc3\xa9 new");
    CHECK(begins[0] == 0 && ends[0] == 3 && begins[1] == 4 && ends[1] == 7);
    mbl_buf_free(&text);
    mbl_tokens_close(&t);
    mbl_texts_free(x);
}
