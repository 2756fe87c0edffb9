/* tokenizer.c: tokenizers: ids and offsets that Hugging Face's `tokenizers` 0.23.3 gave, on its vocabularies of BERT and GPT-2 and on
 * small ones made here; what is refused and in which words; training; and that files come back as the same tokenizer. tokenizer.sh holds
 * many more texts against the package itself. */
#include "lib/files.h"
#include "lib/tokenizer.h"
#include "test.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct mbl_error e;

static struct mbl_text text_of(const char *s) {
    return (struct mbl_text){s, strlen(s)};
}

static struct mbl_tokenizer *parse(const char *json) {
    struct mbl_tokenizer *t;
    if (mbl_tokenizer_parse(json, strlen(json), "tokenizer.json", &t, &e)) FAIL("%s", e.text);
    return t;
}

static struct mbl_tokenizer *open_path(const char *path) {
    struct mbl_tokenizer *t;
    if (mbl_tokenizer_open(path, &t, &e)) FAIL("%s", e.text);
    return t;
}

/* Ids as text, "101 7592 102"; of a pair its types behind a bar. */
static const char *ids_of(const struct mbl_tokenizer *t, const char *text, const char *pair, const struct mbl_encode_options *o) {
    static char out[4096];
    struct mbl_encoding x = {0};
    struct mbl_text a = text_of(text), b = text_of(pair ? pair : "");
    int n = 0;
    if (mbl_tokenizer_encode(t, &a, pair ? &b : NULL, 1, o, &x, &e)) FAIL("%s", e.text);
    out[0] = 0;
    for (size_t i = 0; i < x.count && n < 4000; i++) n += snprintf(out + n, 20, "%s%d", i ? " " : "", x.ids[i]);
    if (pair) n += snprintf(out + n, 20, " |");
    for (size_t i = 0; i < x.count && pair && n < 4000; i++) n += snprintf(out + n, 20, " %d", x.types[i]);
    mbl_encoding_free(&x);
    return out;
}

struct recorded {
    const char *text;
    size_t count;
    int32_t ids[24];
    uint32_t offsets[48];
};

static const struct recorded bert[] = {
    {"Hello, world!", 6, {101, 7592, 1010, 2088, 999, 102}, {0, 0, 0, 5, 5, 6, 7, 12, 12, 13, 0, 0}},
    {"unaffable \303\200\303\211\303\216 na\303\257ve", 8, {101, 14477, 20961, 3468, 29347, 2072, 15743, 102}, {0, 0, 0, 3, 3, 6, 6, 9,
     10, 14, 14, 16, 17, 23, 0, 0}},
    {"\344\270\255\346\226\207 and \357\275\206\357\275\225\357\275\214\357\275\214", 6, {101, 1746, 1861, 1998, 100, 102}, {0, 0, 0,
     3, 3, 6, 7, 10, 11, 23, 0, 0}},
    {"I'm don't we'LL 'S  a\302\240b\011\011c ", 16, {101, 1045, 1005, 1049, 2123, 1005, 1056, 2057, 1005, 2222, 1005, 1055, 1037,
     1038, 1039, 102}, {0, 0, 0, 1, 1, 2, 2, 3, 4, 7, 7, 8, 8, 9, 10, 12, 12, 13, 13, 15, 16, 17, 17, 18, 20, 21, 23, 24, 26, 27, 0,
     0}},
    {"[MASK] x[SEP]", 5, {101, 103, 1060, 102, 102}, {0, 0, 0, 6, 7, 8, 8, 13, 0, 0}},
    {"x\342\200\213y \315\204\357\277\275", 4, {101, 1060, 2100, 102}, {0, 0, 0, 1, 4, 5, 0, 0}},
    {"\304\260stanbul 12345\302\275", 6, {101, 9960, 13138, 19961, 13714, 102}, {0, 0, 0, 9, 10, 13, 13, 15, 15, 17, 0, 0}},
    {"\360\237\231\202\360\237\221\215\360\237\217\275 e\314\201", 4, {101, 100, 1041, 102}, {0, 0, 0, 12, 13, 14, 0, 0}},
    {" \012  two\012\012", 3, {101, 2048, 102}, {0, 0, 4, 7, 0, 0}},
    {"<|endoftext|>hi", 11, {101, 1026, 1064, 2203, 15794, 10288, 2102, 1064, 1028, 7632, 102}, {0, 0, 0, 1, 1, 2, 2, 5, 5, 8, 8, 10,
     10, 11, 11, 12, 12, 13, 13, 15, 0, 0}},
};

static const struct recorded gpt2[] = {
    {"Hello, world!", 4, {15496, 11, 995, 0}, {0, 5, 5, 6, 6, 12, 12, 13}},
    {"unaffable \303\200\303\211\303\216 na\303\257ve", 9, {403, 2001, 540, 6184, 222, 38351, 127, 236, 41492}, {0, 2, 2, 5, 5, 9, 9,
     12, 10, 12, 12, 14, 14, 16, 14, 16, 16, 23}},
    {"\344\270\255\346\226\207 and \357\275\206\357\275\225\357\275\214\357\275\214", 16, {40792, 23877, 229, 290, 27332, 121, 228,
     171, 121, 243, 171, 121, 234, 171, 121, 234}, {0, 3, 3, 6, 3, 6, 6, 10, 10, 14, 11, 14, 11, 14, 14, 17, 14, 17, 14, 17, 17, 20,
     17, 20, 17, 20, 20, 23, 20, 23, 20, 23}},
    {"I'm don't we'LL 'S  a\302\240b\011\011c ", 17, {40, 1101, 836, 470, 356, 6, 3069, 705, 50, 220, 257, 1849, 65, 197, 197, 66,
     220}, {0, 1, 1, 3, 3, 7, 7, 9, 9, 12, 12, 13, 13, 15, 15, 17, 17, 18, 18, 19, 19, 21, 21, 23, 23, 24, 24, 25, 25, 26, 26, 27, 27,
     28}},
    {"[MASK] x[SEP]", 9, {58, 31180, 42, 60, 2124, 58, 5188, 47, 60}, {0, 1, 1, 4, 4, 5, 5, 6, 6, 8, 8, 9, 9, 11, 11, 12, 12, 13}},
    {"x\342\200\213y \315\204\357\277\275", 7, {87, 9525, 88, 220, 137, 226, 4210}, {0, 1, 1, 4, 4, 5, 5, 6, 6, 8, 6, 8, 8, 11}},
    {"\304\260stanbul 12345\302\275", 6, {128, 108, 24179, 17031, 2231, 23141}, {0, 2, 0, 2, 2, 9, 9, 13, 13, 15, 15, 17}},
    {"\360\237\231\202\360\237\221\215\360\237\217\275 e\314\201", 10, {8582, 25081, 41840, 235, 8582, 237, 121, 304, 136, 223}, {0, 4,
     0, 4, 4, 8, 4, 8, 8, 12, 8, 12, 8, 12, 12, 14, 14, 16, 14, 16}},
    {" \012  two\012\012", 5, {220, 198, 220, 734, 628}, {0, 1, 1, 2, 2, 3, 3, 7, 7, 9}},
    {"<|endoftext|>hi", 2, {50256, 5303}, {0, 13, 13, 15}},
};

static void check_recorded(const struct mbl_tokenizer *t, const struct recorded *rows, size_t count) {
    struct mbl_encoding x = {0};
    struct mbl_encode_options o = {.offsets = true};
    for (int again = 0; again < 2; again++) { /* the second time out of the cache */
        for (size_t i = 0; i < count; i++) {
            struct mbl_text text = text_of(rows[i].text);
            if (mbl_tokenizer_encode(t, &text, NULL, 1, &o, &x, &e)) FAIL("%s", e.text);
            CHECK_EQ(x.count, rows[i].count);
            CHECK_MEM(x.ids, rows[i].ids, x.count * sizeof *x.ids);
            CHECK_MEM(x.offsets, rows[i].offsets, x.count * sizeof *x.offsets);
        }
    }
    mbl_encoding_free(&x);
}

static void copy_shared(const char *from, const char *to) {
    struct mbl_buf text = {0};
    char *path = mbl_printf("%s/%s", test_folder(), to);
    if (mbl_file_read(test_shared(from), 1 << 24, &text, &e) || mbl_file_write(path, text.data, text.len, &e)) FAIL("%s", e.text);
    mbl_buf_free(&text);
    free(path);
}

static struct mbl_tokenizer *shared_gpt2(void) {
    char *folder = mbl_printf("%s/gpt2", test_folder());
    if (mbl_folder_make(folder, &e)) FAIL("%s", e.text);
    copy_shared("data/gpt2-vocab.json", "gpt2/vocab.json");
    copy_shared("data/gpt2-merges.txt", "gpt2/merges.txt");
    struct mbl_tokenizer *t = open_path(folder);
    free(folder);
    return t;
}

static struct mbl_tokenizer *shared_bert(void) {
    copy_shared("data/bert-uncased-vocab.txt", "vocab.txt");
    return open_path(test_folder());
}

TEST("BERT's vocabulary gives the ids and offsets that were recorded") {
    struct mbl_tokenizer *t = shared_bert();
    CHECK_EQ(mbl_tokenizer_size(t), 30522);
    CHECK_EQ(mbl_tokenizer_special(t)->mask, 103);
    CHECK_EQ(mbl_tokenizer_id(t, "hello"), 7592);
    CHECK_STR(mbl_tokenizer_token(t, 7592), "hello");
    check_recorded(t, bert, sizeof bert / sizeof *bert);
    mbl_tokenizer_free(t);
}

TEST("GPT-2's vocabulary gives the ids and offsets that were recorded") {
    struct mbl_tokenizer *t = shared_gpt2();
    CHECK_EQ(mbl_tokenizer_size(t), 50257);
    CHECK_EQ(mbl_tokenizer_special(t)->eos, 50256);
    check_recorded(t, gpt2, sizeof gpt2 / sizeof *gpt2);
    mbl_tokenizer_free(t);
}

TEST("pairs are cut as the strategy says and have types 0 and 1") {
    struct mbl_tokenizer *t = shared_bert();
    const char *a = "the quick brown fox", *b = "jumps over the lazy dog today";
    struct mbl_encode_options o = {.max_length = 8};
    CHECK_STR(ids_of(t, a, b, &o), "101 1996 4248 102 14523 2058 1996 102 | 0 0 0 0 1 1 1 1");
    o.truncation = MBL_TRUNCATE_ONLY_SECOND;
    CHECK_STR(ids_of(t, "the quick brown", b, &o), "101 1996 4248 2829 102 14523 2058 102 | 0 0 0 0 0 1 1 1");
    o = (struct mbl_encode_options){.max_length = 6, .truncate_left = true};
    CHECK_STR(ids_of(t, "the quick brown fox jumps over", NULL, &o), "101 2829 4419 14523 2058 102");
    struct mbl_text first = text_of(a), second = text_of(b);
    struct mbl_encoding x = {0};
    o = (struct mbl_encode_options){.max_length = 8, .truncation = MBL_TRUNCATE_ONLY_FIRST};
    CHECK(mbl_tokenizer_encode(t, &first, &second, 1, &o, &x, &e));
    CHECK_CONTAINS(e.text, "only the first text is to be cut, whose 4 tokens are too few");
    o.max_length = 2;
    CHECK(mbl_tokenizer_encode(t, &first, &second, 1, &o, &x, &e));
    CHECK_CONTAINS(e.text, "the special ones alone are 3");
    mbl_encoding_free(&x);
    mbl_tokenizer_free(t);
}

TEST("a batch is padded to its longest row, with a mask") {
    static const int32_t padded[] = {101, 7592, 102, 0, 0, 101, 7592, 1010, 2088, 102}, masked[] = {1, 1, 1, 0, 0, 1, 1, 1, 1, 1};
    struct mbl_tokenizer *t = shared_bert();
    struct mbl_text rows[] = {text_of("hello"), text_of("hello, world")};
    struct mbl_encoding x = {0};
    int32_t ids[10], types[10], mask[10];
    CHECK(!mbl_tokenizer_encode(t, rows, NULL, 2, NULL, &x, &e));
    CHECK_EQ(mbl_encoding_width(&x), 5);
    mbl_encoding_pad(&x, 5, 0, ids, types, mask);
    CHECK_MEM(ids, padded, sizeof ids);
    CHECK_MEM(mask, masked, sizeof mask);
    mbl_encoding_free(&x);
    mbl_tokenizer_free(t);
}

TEST("tokens are decoded to the text that the package gives") {
    static const int32_t cut[] = {15496, 995, 220, 12520, 247}, none[] = {15496, 50257}, words[] = {101, 1045, 1005, 1049, 2023, 1012, 102};
    struct mbl_tokenizer *t = shared_gpt2();
    struct mbl_buf out = {0};
    CHECK(!mbl_tokenizer_decode(t, cut, 5, false, &out, &e));
    CHECK_STR(out.data, "Hello world  \xef\xbf\xbd");
    CHECK(mbl_tokenizer_decode(t, none, 2, false, &out, &e));
    CHECK_CONTAINS(e.text, "token 1 has the id 50257");
    mbl_tokenizer_free(t);
    t = shared_bert();
    out.len = 0;
    CHECK(!mbl_tokenizer_decode(t, words, 7, true, &out, &e));
    CHECK_STR(out.data, "i ' m this.");
    mbl_buf_free(&out);
    mbl_tokenizer_free(t);
}

/* -- small vocabularies */

#define PIECES                                                                                                                            \
    "{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"vocab\":{\"[UNK]\":0,\"[X]\":1,\"un\":2,\"##aff\":3,\"##able\":4,\"a\":5,"         \
    "\"##a\":6,\".\":7}}"
#define SMALL                                                                                                                             \
    "{\"added_tokens\":[{\"id\":0,\"content\":\"[UNK]\",\"special\":true},"                                                               \
    "{\"id\":1,\"content\":\"[X]\",\"special\":true,\"lstrip\":true}],\"normalizer\":{\"type\":\"BertNormalizer\"},"                      \
    "\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\"model\":" PIECES "}"

TEST("WordPiece takes the longest pieces, and what they can't make up is unknown as a whole") {
    struct mbl_tokenizer *t = parse(SMALL);
    CHECK_STR(ids_of(t, "Unaffable unaffabl\xc3\xa9 a.A \xc3\xa1" "aa b", NULL, NULL), "2 3 4 2 3 4 5 7 5 5 6 6 0");
    CHECK_STR(ids_of(t, "a  [X]a", NULL, NULL), "5 1 5");
    char word[102];
    memset(word, 'a', 101);
    word[101] = 0;
    CHECK_STR(ids_of(t, word, NULL, NULL), "0");
    word[3] = 0;
    CHECK_STR(ids_of(t, word, NULL, NULL), "5 6 6");
    mbl_tokenizer_free(t);
}

/* As Llama has it: no words, spaces are characters, bytes stand in for characters. %s: whether unknown ones are fused. */
#define LLAMA                                                                                                                             \
    "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"_\"},"                                   \
    "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"_\"}]},\"model\":{\"type\":\"BPE\",\"unk_token\":\"?\","          \
    "\"fuse_unk\":%s,\"byte_fallback\":true,\"vocab\":{\"?\":0,\"_\":1,\"a\":2,\"b\":3,\"ab\":4,\"_ab\":5,\"<0xC3>\":6,\"<0xA9>\":7},"    \
    "\"merges\":[\"a b\",[\"_\",\"ab\"]]}}"

static struct mbl_tokenizer *llama(bool fused) {
    char json[1024];
    snprintf(json, sizeof json, LLAMA, fused ? "true" : "false");
    return parse(json);
}

TEST("BPE merges by rank, falls back to bytes, and fuses what is unknown only if told to") {
    struct mbl_tokenizer *t = llama(true);
    CHECK_STR(ids_of(t, "ab ab\xc3\xa9" "b", NULL, NULL), "5 5 6 7 3");
    CHECK_STR(ids_of(t, "axyb", NULL, NULL), "1 2 0 3");
    mbl_tokenizer_free(t);
    t = llama(false);
    CHECK_STR(ids_of(t, "axyb", NULL, NULL), "1 2 0 0 3");
    mbl_tokenizer_free(t);
}

TEST("a long word is merged as a short one is") {
    char text[4001];
    struct mbl_tokenizer *t = llama(true);
    struct mbl_encoding x = {0};
    for (int i = 0; i < 4000; i++) text[i] = "ab"[i & 1];
    text[4000] = 0;
    struct mbl_text whole = text_of(text);
    CHECK(!mbl_tokenizer_encode(t, &whole, NULL, 1, NULL, &x, &e));
    CHECK_EQ(x.count, 2000);
    CHECK_EQ(x.ids[0], 5);
    CHECK_EQ(x.ids[1999], 4);
    mbl_encoding_free(&x);
    mbl_tokenizer_free(t);
}

#define MODEL "\"model\":" PIECES "}"
#define BPE(more) "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1}," more "}}"

TEST("what tokenizer.json asks for and is not known is refused by name and place") {
    static const struct {
        const char *json, *message;
    } cases[] = {
        {"[]", "no model in it"},
        {"{\"model\":{\"type\":\"Unigram\"}}", "model.type is \"Unigram\"; mbuild's tokenizers know WordPiece, BPE"},
        {"{\"normalizer\":{\"type\":\"Precompiled\"}," MODEL, "normalizer.type is \"Precompiled\"; mbuild's tokenizers know BertNormalizer"},
        {"{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"UnicodeScripts\"}]}," MODEL,
         "pre_tokenizer.pretokenizers[0].type is \"UnicodeScripts\""},
        {"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"x+\"},\"behavior\":\"Isolated\"}," MODEL,
         "pre_tokenizer.pattern.Regex is \"x+\"; mbuild's tokenizers know those of GPT-2, Llama 3 and Qwen 2"},
        {"{\"pre_tokenizer\":{\"type\":\"ByteLevel\"}," MODEL, "only with the model BPE"},
        {"{\"post_processor\":{\"type\":\"BertProcessing\",\"cls\":[\"[X]\",99],\"sep\":[\"[X]\",1]}," MODEL,
         "post_processor.cls[1] is no token's id"},
        {"{\"decoder\":{\"type\":\"CTC\"}," MODEL, "decoder.type is \"CTC\""},
        {"{\"added_tokens\":[{\"id\":3,\"content\":\"[UNK]\"}]," MODEL,
         "added_tokens[0] gives \"[UNK]\" the id 3, but model.vocab has \"[UNK]\" with id 0"},
        {"{\"added_tokens\":[{\"id\":12,\"content\":\"new\"}]," MODEL, "added_tokens[0] has the id 12; 8 is expected"},
        {BPE("\"merges\":[\"a b\"]"), "merge 0 needs the token \"ab\""},
        {BPE("\"merges\":[\"ab\"]"), "merge 0 is no pair"},
        {BPE("\"merges\":[],\"dropout\":0.1"), "model.dropout is 0.1"},
        {BPE("\"merges\":[],\"end_of_word_suffix\":\"</w>\""), "model.end_of_word_suffix is \"</w>\""},
        {"{\"model\":{\"type\":\"BPE\",\"merges\":[],\"vocab\":{\"a\":99999999}}}", "model.vocab[\"a\"] is no id"},
        {"{\"model\":{\"type\":\"BPE\",\"merges\":[],\"vocab\":{\"a\":1,\"b\":1}}}", "gives id 1 to \"a\" and to \"b\""},
        {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":1}}}", "model.unk_token is \"[UNK]\", which model.vocab doesn't have"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mbl_tokenizer *t;
        CHECKF(mbl_tokenizer_parse(cases[i].json, strlen(cases[i].json), "tokenizer.json", &t, &e), "%s was taken", cases[i].json);
        CHECK_CONTAINS(e.text, cases[i].message);
        CHECK_CONTAINS(e.text, "tokenizer.json: ");
    }
}

TEST("text that is not UTF-8 is refused with its number and offset") {
    struct mbl_tokenizer *t = parse(SMALL);
    struct mbl_text rows[] = {text_of("a"), text_of("ab\xff")};
    struct mbl_encoding x = {0};
    CHECK(mbl_tokenizer_encode(t, rows, NULL, 2, NULL, &x, &e));
    CHECK_STR(e.text, "text 1: byte 2 (0xff) is not UTF-8");
    mbl_encoding_free(&x);
    mbl_tokenizer_free(t);
}

TEST("a broken merges.txt is told by file and line") {
    char *vocab = mbl_printf("%s/vocab.json", test_folder()), *merges = mbl_printf("%s/merges.txt", test_folder());
    struct mbl_tokenizer *t;
    CHECK(!mbl_file_write(vocab, "{\"a\":0}", 7, &e));
    CHECK(!mbl_file_write(merges, "#version: 0.2\na b c\n", 20, &e));
    CHECK(mbl_tokenizer_open(test_folder(), &t, &e));
    CHECK_CONTAINS(e.text, "merges.txt:2: \"a b c\"; two tokens with a space between are expected");
    free(vocab);
    free(merges);
}

/* -- training and files */

static const char *const lines[] = {"low lower lowest, low low", "newer wider new new news", "the lower the newer"};

static struct mbl_tokenizer *train(const char *model, size_t size, bool backwards) {
    struct mbl_tokenizer *t;
    struct mbl_tokenizer_training o = {.model = model, .vocabulary = size, .lowercase = true, .max_length = 64};
    struct mbl_text texts[3];
    for (int i = 0; i < 3; i++) texts[i] = text_of(lines[backwards ? 2 - i : i]);
    if (mbl_tokenizer_train(&o, texts, 3, &t, &e)) FAIL("%s", e.text);
    return t;
}

static void same_files(const char *a, const char *b) {
    static const char *const names[] = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"};
    for (size_t i = 0; i < 3; i++) {
        struct mbl_buf x = {0}, y = {0};
        char *one = mbl_printf("%s/%s", a, names[i]), *two = mbl_printf("%s/%s", b, names[i]);
        if (mbl_file_read(one, 1 << 24, &x, &e) || mbl_file_read(two, 1 << 24, &y, &e)) FAIL("%s", e.text);
        CHECK_STR(x.data, y.data);
        mbl_buf_free(&x);
        mbl_buf_free(&y);
        free(one);
        free(two);
    }
}

static void check_training(const char *model, size_t size) {
    char *a = mbl_printf("%s/a", test_folder()), *b = mbl_printf("%s/b", test_folder()), *c = mbl_printf("%s/c", test_folder());
    struct mbl_tokenizer *first = train(model, size, false), *second = train(model, size, true);
    CHECK(!mbl_tokenizer_save(first, a, &e));
    CHECK(!mbl_tokenizer_save(second, b, &e));
    same_files(a, b);
    struct mbl_tokenizer *again = open_path(a);
    CHECK_EQ(mbl_tokenizer_max_length(again), 64);
    CHECK(!mbl_tokenizer_save(again, c, &e));
    same_files(a, c);
    char *ids = mbl_printf("%s", ids_of(first, "the lowest news", "wider", NULL));
    CHECK_STR(ids_of(again, "the lowest news", "wider", NULL), ids);
    free(ids);
    free(a);
    free(b);
    free(c);
    mbl_tokenizer_free(first);
    mbl_tokenizer_free(second);
    mbl_tokenizer_free(again);
}

TEST("byte-level training gives the same files in whatever order texts come, and they are read again") {
    check_training("bpe", 280);
}

TEST("WordPiece training gives the same files in whatever order texts come, and they are read again") {
    check_training("wordpiece", 60);
}

TEST("the pair that stands most often becomes the first token learned") {
    struct mbl_tokenizer *t = train("bpe", 258, false);
    CHECK_STR(mbl_tokenizer_token(t, 0), "<|endoftext|>");
    CHECK_STR(mbl_tokenizer_token(t, 257), "lo"); /* 6 times, as "ow" does, whose ids are higher */
    mbl_tokenizer_free(t);
}

TEST("any text comes back from byte-level tokens as it was") {
    struct mbl_tokenizer *t = train("bpe", 300, false);
    const char *text = "  lower\xe4\xb8\xad\xf0\x9f\x99\x82 \n\tnews's\x7f\x01 ";
    struct mbl_encoding x = {0};
    struct mbl_text whole = text_of(text);
    struct mbl_buf out = {0};
    CHECK(!mbl_tokenizer_encode(t, &whole, NULL, 1, NULL, &x, &e));
    CHECK(!mbl_tokenizer_decode(t, x.ids, x.count, false, &out, &e));
    CHECK_STR(out.data, text);
    mbl_buf_free(&out);
    mbl_encoding_free(&x);
    mbl_tokenizer_free(t);
}

static void *encode_often(void *tokenizer) {
    struct mbl_encoding x = {0};
    struct mbl_error mine;
    struct mbl_text rows[3];
    intptr_t total = 0;
    for (int i = 0; i < 3; i++) rows[i] = text_of(lines[i]);
    for (int i = 0; i < 200 && !mbl_tokenizer_encode(tokenizer, rows, NULL, 3, NULL, &x, &mine); i++) total += (intptr_t)x.count;
    mbl_encoding_free(&x);
    return (void *)total;
}

TEST("threads that share a tokenizer each get the same tokens") {
    struct mbl_tokenizer *t = train("bpe", 280, false);
    pthread_t threads[4];
    void *totals[4];
    for (int i = 0; i < 4; i++) CHECK(!pthread_create(&threads[i], NULL, encode_often, t));
    for (int i = 0; i < 4; i++) pthread_join(threads[i], &totals[i]);
    for (int i = 1; i < 4; i++) CHECK(totals[i] == totals[0] && totals[0]);
    mbl_tokenizer_free(t);
}
