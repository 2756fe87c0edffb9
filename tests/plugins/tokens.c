/* tokens.c: rows of tokens as models take them: pairs with their types, cut and padded, and which tokens a masked language model is not
 * shown. tags.c has those of words. */
#include "fake_host.h"
#include "lib/tokens.h"

#include <math.h>
#include <stdlib.h>

static struct mbl_dataset data;
static struct mbl_error e;
static struct mbl_arena arena;

/* A dataset of what `text` has, made by the step itself. */
static void make(const char *text, const char *params) {
    static struct fake fake;
    const char *path = mbl_arena_printf(&arena, "%s/source", test_folder()), *all = mbl_arena_printf(&arena, "%s/all", test_folder());
    FILE *f = fopen(path, "wb");
    CHECK(f && fputs(text, f) >= 0 && !fclose(f));
    mbl_arena_free(&fake.arena);
    fake_open(&fake, "dataset", params);
    fake_path(&fake, "from", path);
    fake_path(&fake, "all", all);
    CHECKF(fake_run(&fake) == MB_OK, "%s", fake.message);
    mbl_dataset_close(&data);
    if (mbl_dataset_open(all, &data, &e)) FAIL("%s", e.text);
}

/* One token a letter: a is 5, b is 6 …, with BERT's frame. */
static struct mbl_texts *letters(void) {
    struct mbl_buf json = {0};
    struct mbl_texts *x = mbl_texts_new();
    mbl_buf_adds(&json, "{\"added_tokens\":[");
    static const char *const special[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
    for (int i = 0; i < 5; i++)
        mbl_buf_addf(&json, "%s{\"id\":%d,\"content\":\"%s\",\"special\":true,\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
                     "\"normalized\":false}", i ? "," : "", i, special[i]);
    mbl_buf_adds(&json, "],\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\"post_processor\":{\"type\":\"BertProcessing\","
                        "\"sep\":[\"[SEP]\",3],\"cls\":[\"[CLS]\",2]},\"decoder\":null,\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\","
                        "\"continuing_subword_prefix\":\"##\",\"max_input_chars_per_word\":100,\"vocab\":{");
    for (int i = 0; i < 5; i++) mbl_buf_addf(&json, "\"%s\":%d,", special[i], i);
    for (int i = 0; i < 26; i++) mbl_buf_addf(&json, "%s\"%c\":%d", i ? "," : "", 'a' + i, 5 + i);
    mbl_buf_adds(&json, "}}}");
    if (mbl_tokenizer_parse(mbl_buf_str(&json), json.len, "tokenizer.json", &x->tokenizer, &e)) FAIL("%s", e.text);
    mbl_buf_free(&json);
    return x;
}

TEST("pairs become rows with types 0 and 1, the longer text cut first, padded to the batch's widest") {
    struct mbl_texts *x = letters();
    struct mbl_tokens t;
    int32_t ids[32], types[32], lengths[2];
    make("q,a,y\na b c d e,f g,1\nh,i j,0\n", "{\"label\": \"y\", \"text\": [\"q\", \"a\"]}");
    if (mbl_tokens_open(&t, x, &data, MBL_CLASSES, 8, NULL, &e)) FAIL("%s", e.text);
    CHECK(!strcmp(x->columns[0], "q") && !strcmp(x->columns[1], "a"));
    CHECK_EQ(t.cut, 1);
    CHECK_EQ(mbl_tokens_width(&t, NULL, 0, 2), 8);
    mbl_tokens_fill(&t, NULL, 0, 2, 8, ids, types, lengths);
    /* as tokenizers has it: five and two, of which five fit, become three and two */
    CHECK_MEM(ids, ((const int32_t[]){2, 5, 6, 7, 3, 10, 11, 3, 2, 12, 3, 13, 14, 3, 0, 0}), sizeof(int32_t) * 16);
    CHECK_MEM(types, ((const int32_t[]){0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1, 0, 0}), sizeof(int32_t) * 16);
    CHECK(lengths[0] == 8 && lengths[1] == 6);
    mbl_tokens_close(&t);
    x->columns[0] = "a"; /* said the other way round */
    x->columns[1] = "q";
    if (mbl_tokens_open(&t, x, &data, MBL_CLASSES, 16, NULL, &e)) FAIL("%s", e.text);
    CHECK_EQ(t.ids[1], 10);
    mbl_tokens_close(&t);
    CHECK(mbl_tokens_open(&t, x, &data, MBL_MASKED_TOKEN, 16, NULL, &e));
    CHECK_CONTAINS(e.text, "a language model reads one column; text = { \"a\" } or text = { \"q\" }");
    mbl_tokens_close(&t);
    mbl_texts_free(x);
}

enum { ROWS = 60, LENGTH = 64 };

/* What an epoch shows and asks. */
static int64_t shown(struct mbl_tokens *t, uint64_t seed, int64_t epoch, int32_t *ids, int32_t *labels) {
    int32_t lengths[ROWS];
    t->seed = seed;
    t->epoch = epoch;
    mbl_tokens_fill(t, NULL, 0, t->rows, LENGTH, ids, NULL, lengths);
    return mbl_tokens_labels(t, NULL, 0, t->rows, LENGTH, labels);
}

TEST("of tokens 15 in 100 are asked for: 80 of these masked, 10 another, 10 as they are, never a special one, by seed and epoch alone") {
    struct mbl_texts *x = letters();
    struct mbl_tokens t;
    struct mbl_buf text = {0};
    uint32_t words[4];
    for (int i = 0; i < 60; i++, mbl_buf_addc(&text, '\n'))
        for (int k = 0; k < 60; k++) {
            mbk_philox(9, (uint64_t)(i * 60 + k), words);
            mbl_buf_addc(&text, (char)('a' + words[0] % 26));
            mbl_buf_addc(&text, ' ');
        }
    make(mbl_buf_str(&text), "{\"format\": \"text\"}");
    mbl_buf_free(&text);
    if (mbl_tokens_open(&t, x, &data, MBL_MASKED_TOKEN, LENGTH, NULL, &e)) FAIL("%s", e.text);
    CHECK(t.rows <= ROWS);
    static int32_t ids[ROWS * LENGTH], labels[ROWS * LENGTH], again[ROWS * LENGTH], others[ROWS * LENGTH];
    int64_t plain = 0, asked = 0, masked = 0, changed = 0, kept = 0, tokens = t.starts[t.rows];
    for (int64_t i = 0; i < tokens; i++) plain += t.ids[i] >= 5;
    for (int64_t epoch = 0; epoch < 40; epoch++) {
        int64_t counted = shown(&t, 7, epoch, ids, labels);
        for (int64_t r = 0; r < t.rows; r++)
            for (int64_t k = 0; k < t.starts[r + 1] - t.starts[r]; k++) {
                int32_t id = t.ids[t.starts[r] + k], at = (int32_t)(r * LENGTH + k), label = labels[at];
                if (label == MBL_NO_LABEL) {
                    CHECK_EQ(ids[at], id); /* what isn't asked for is shown */
                    continue;
                }
                CHECK(label == id && id >= 5);
                counted--;
                asked++;
                masked += ids[at] == 4;
                kept += ids[at] == id;
                changed += ids[at] != 4 && ids[at] != id;
            }
        CHECK_EQ(counted, 0); /* padding is never asked for */
    }
    double n = 40 * (double)plain;
    CHECKF(fabs((double)asked / n - 0.15) < 4 * sqrt(0.15 * 0.85 / n), "%g are asked for", (double)asked / n);
    CHECK_NEAR((double)masked / (double)asked, 0.8, 0.015); /* four deviations; chance may put the mask, or the token itself, for another */
    CHECK_NEAR((double)kept / (double)asked, 0.1 + 0.1 / 31, 0.012);
    CHECK_NEAR((double)changed / (double)asked, 0.1 - 0.2 / 31, 0.012);
    shown(&t, 7, 3, ids, labels);
    shown(&t, 7, 3, again, others);
    CHECK_MEM(ids, again, sizeof ids);
    CHECK_MEM(labels, others, sizeof labels);
    shown(&t, 7, 4, again, others);
    CHECK(memcmp(labels, others, sizeof labels) != 0);
    shown(&t, 8, 3, again, others);
    CHECK(memcmp(labels, others, sizeof labels) != 0);
    /* The same token is hidden wherever its row stands in a batch. */
    int32_t one[LENGTH], length;
    mbl_tokens_fill(&t, (const int32_t[]){5}, 0, 1, LENGTH, one, NULL, &length);
    shown(&t, 8, 3, ids, labels);
    CHECK_MEM(one, ids + 5 * LENGTH, sizeof one);
    mbl_tokens_close(&t);
    mbl_texts_free(x);
}
