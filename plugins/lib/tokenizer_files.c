/* tokenizer_files.c: the files in a model's folder. vocab.txt, and vocab.json with merges.txt, are turned into what tokenizer.json says,
 * so that all
 * tokenizers are made in one place (tokenizer_read.c) and can be written (tokenizer_write.c).
 */
#include "tokenizer_files.h"
#include "files.h"
#include "utf8.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_MOST ((size_t)256 << 20)

/* -- building blocks of tokenizer.json */

struct mbl_json *mbl_token_table(struct mbl_arena *a, size_t count) {
    struct mbl_json *v = mbl_json_table(a);
    v->items = mbl_arena_alloc(a, (count + 1) * sizeof *v->items);
    v->keys = mbl_arena_alloc(a, (count + 1) * sizeof *v->keys);
    v->cap = count + 1;
    return v;
}

void mbl_token_table_add(struct mbl_arena *a, struct mbl_json *table, const char *token, int64_t id) {
    table->keys[table->count] = token;
    table->items[table->count++] = mbl_json_int(a, id);
}

/* { "type": type }, for more to be set. */
static struct mbl_json *step(struct mbl_arena *a, const char *type) {
    struct mbl_json *v = mbl_json_table(a);
    mbl_json_set(a, v, "type", mbl_json_string(a, type));
    return v;
}

static struct mbl_json *bytes_step(struct mbl_arena *a, bool prefix_space, bool trim) {
    struct mbl_json *v = step(a, "ByteLevel");
    mbl_json_set(a, v, "add_prefix_space", mbl_json_bool(a, prefix_space));
    mbl_json_set(a, v, "trim_offsets", mbl_json_bool(a, trim));
    mbl_json_set(a, v, "use_regex", mbl_json_bool(a, true));
    return v;
}

static void add_added(struct mbl_arena *a, struct mbl_json *list, const char *token, int64_t id, bool lstrip) {
    struct mbl_json *v = mbl_json_table(a);
    mbl_json_set(a, v, "id", mbl_json_int(a, id));
    mbl_json_set(a, v, "content", mbl_json_string(a, token));
    mbl_json_set(a, v, "single_word", mbl_json_bool(a, false));
    mbl_json_set(a, v, "lstrip", mbl_json_bool(a, lstrip));
    mbl_json_set(a, v, "rstrip", mbl_json_bool(a, false));
    mbl_json_set(a, v, "normalized", mbl_json_bool(a, false));
    mbl_json_set(a, v, "special", mbl_json_bool(a, true));
    mbl_json_push(a, list, v);
}

/* A token's text as tokenizer_config.json names it, or else `otherwise`. */
static const char *special_text(const struct mbl_json *config, const char *key, const char *otherwise) {
    const struct mbl_json *v = mbl_json_get(config, key);
    const char *text = v && v->type == MBL_JSON_STRING ? v->string : mbl_json_get_string(v, "content");
    return text ? text : otherwise;
}

static int64_t id_of(const struct mbl_json *vocab, const char *token) {
    return token ? mbl_json_get_int(vocab, token, -1) : -1;
}

static struct mbl_json *frame_piece(struct mbl_arena *a, const char *kind, const char *id, int type) {
    struct mbl_json *inner = mbl_json_table(a), *outer = mbl_json_table(a);
    mbl_json_set(a, inner, "id", mbl_json_string(a, id));
    mbl_json_set(a, inner, "type_id", mbl_json_int(a, type));
    mbl_json_set(a, outer, kind, inner);
    return outer;
}

/* [CLS] A [SEP], [CLS] A [SEP] B [SEP] */
static struct mbl_json *bert_frame(struct mbl_arena *a, const char *const tokens[2], const int64_t ids[2]) {
    struct mbl_json *v = step(a, "TemplateProcessing"), *special = mbl_json_table(a);
    for (int pair = 0; pair < 2; pair++) {
        struct mbl_json *list = mbl_json_list(a);
        mbl_json_push(a, list, frame_piece(a, "SpecialToken", tokens[0], 0));
        mbl_json_push(a, list, frame_piece(a, "Sequence", "A", 0));
        mbl_json_push(a, list, frame_piece(a, "SpecialToken", tokens[1], 0));
        if (pair) {
            mbl_json_push(a, list, frame_piece(a, "Sequence", "B", 1));
            mbl_json_push(a, list, frame_piece(a, "SpecialToken", tokens[1], 1));
        }
        mbl_json_set(a, v, pair ? "pair" : "single", list);
    }
    for (int i = 0; i < 2; i++) {
        struct mbl_json *t = mbl_json_table(a), *list = mbl_json_list(a), *texts = mbl_json_list(a);
        mbl_json_push(a, list, mbl_json_int(a, ids[i]));
        mbl_json_push(a, texts, mbl_json_string(a, tokens[i]));
        mbl_json_set(a, t, "id", mbl_json_string(a, tokens[i]));
        mbl_json_set(a, t, "ids", list);
        mbl_json_set(a, t, "tokens", texts);
        mbl_json_set(a, special, tokens[i], t);
    }
    mbl_json_set(a, v, "special_tokens", special);
    return v;
}

static struct mbl_json *root(struct mbl_arena *a) {
    struct mbl_json *v = mbl_json_table(a);
    mbl_json_set(a, v, "version", mbl_json_string(a, "1.0"));
    mbl_json_set(a, v, "truncation", mbl_json_null(a));
    mbl_json_set(a, v, "padding", mbl_json_null(a));
    mbl_json_set(a, v, "normalizer", mbl_json_null(a));
    return v;
}

int mbl_wordpiece_json(struct mbl_arena *a, struct mbl_json *vocab, const struct mbl_json *config, const char *name, struct mbl_json **out,
                       struct mbl_error *e) {
    static const char *const keys[] = {"pad_token", "unk_token", "cls_token", "sep_token", "mask_token"};
    static const char *const texts[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
    const char *special[5];
    struct mbl_json *v = root(a), *added = mbl_json_list(a), *normal = step(a, "BertNormalizer"), *decoder = step(a, "WordPiece"),
        *model = step(a, "WordPiece");
    const struct mbl_json *accents = mbl_json_get(config, "strip_accents");
    int64_t ids[5];
    for (int i = 0; i < 5; i++) {
        special[i] = special_text(config, keys[i], texts[i]);
        ids[i] = id_of(vocab, special[i]);
        if (ids[i] < 0 && i >= 1 && i <= 3) return mbl_error_set(e, "%s: the vocabulary lacks the %s \"%s\"", name, keys[i], special[i]);
        if (ids[i] >= 0) add_added(a, added, special[i], ids[i], false);
    }
    mbl_json_set(a, normal, "clean_text", mbl_json_bool(a, true));
    mbl_json_set(a, normal, "handle_chinese_chars", mbl_json_bool(a, mbl_json_get_bool(config, "tokenize_chinese_chars", true)));
    mbl_json_set(a, normal, "strip_accents", accents && accents->type == MBL_JSON_BOOL ? mbl_json_bool(a, accents->boolean)
                 : mbl_json_null(a));
    mbl_json_set(a, normal, "lowercase", mbl_json_bool(a, mbl_json_get_bool(config, "do_lower_case", true)));
    mbl_json_set(a, decoder, "prefix", mbl_json_string(a, "##"));
    mbl_json_set(a, decoder, "cleanup", mbl_json_bool(a, true));
    mbl_json_set(a, model, "unk_token", mbl_json_string(a, special[1]));
    mbl_json_set(a, model, "continuing_subword_prefix", mbl_json_string(a, "##"));
    mbl_json_set(a, model, "max_input_chars_per_word", mbl_json_int(a, 100));
    mbl_json_set(a, model, "vocab", vocab);
    mbl_json_set(a, v, "added_tokens", added);
    mbl_json_set(a, v, "normalizer", normal);
    mbl_json_set(a, v, "pre_tokenizer", step(a, "BertPreTokenizer"));
    mbl_json_set(a, v, "post_processor", bert_frame(a, (const char *const[]){special[2], special[3]}, (const int64_t[]){ids[2], ids[3]}));
    mbl_json_set(a, v, "decoder", decoder);
    mbl_json_set(a, v, "model", model);
    *out = v;
    return 0;
}

static struct mbl_json *token_and_id(struct mbl_arena *a, const char *token, int64_t id) {
    struct mbl_json *v = mbl_json_list(a);
    mbl_json_push(a, v, mbl_json_string(a, token));
    mbl_json_push(a, v, mbl_json_int(a, id));
    return v;
}

int mbl_bpe_json(struct mbl_arena *a, struct mbl_json *vocab, struct mbl_json *merges, const struct mbl_json *config, const char *name,
                 struct mbl_json **out, struct mbl_error *e) {
    static const char *const keys[] = {"bos_token", "eos_token", "unk_token", "cls_token", "sep_token", "pad_token", "mask_token"};
    const char *class = mbl_json_get_string(config, "tokenizer_class");
    bool roberta = class && !strncmp(class, "Roberta", 7);
    struct mbl_json *v = root(a), *added = mbl_json_list(a), *model = step(a, "BPE"), *post;
    bool prefix = mbl_json_get_bool(config, "add_prefix_space", false);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const char *text = special_text(config, keys[i], i < 3 ? "<|endoftext|>" : NULL);
        int64_t id = id_of(vocab, text);
        bool twin = false;
        for (size_t k = 0; k < added->count && id >= 0; k++) twin = twin || mbl_json_get_int(added->items[k], "id", -1) == id;
        if (id >= 0 && !twin) add_added(a, added, text, id, roberta && i == 6);
    }
    if (roberta) {
        const char *cls = special_text(config, "cls_token", "<s>"), *sep = special_text(config, "sep_token", "</s>");
        if (id_of(vocab, cls) < 0 || id_of(vocab, sep) < 0) return mbl_error_set(e, "%s: the vocabulary lacks \"%s\" or \"%s\"", name,
                                                                                 cls, sep);
        post = step(a, "RobertaProcessing");
        mbl_json_set(a, post, "cls", token_and_id(a, cls, id_of(vocab, cls)));
        mbl_json_set(a, post, "sep", token_and_id(a, sep, id_of(vocab, sep)));
        mbl_json_set(a, post, "trim_offsets", mbl_json_bool(a, true));
        mbl_json_set(a, post, "add_prefix_space", mbl_json_bool(a, prefix));
    } else {
        post = bytes_step(a, true, false);
    }
    mbl_json_set(a, model, "dropout", mbl_json_null(a));
    mbl_json_set(a, model, "unk_token", mbl_json_null(a));
    mbl_json_set(a, model, "continuing_subword_prefix", mbl_json_string(a, ""));
    mbl_json_set(a, model, "end_of_word_suffix", mbl_json_string(a, ""));
    mbl_json_set(a, model, "fuse_unk", mbl_json_bool(a, false));
    mbl_json_set(a, model, "byte_fallback", mbl_json_bool(a, false));
    mbl_json_set(a, model, "ignore_merges", mbl_json_bool(a, false));
    mbl_json_set(a, model, "vocab", vocab);
    mbl_json_set(a, model, "merges", merges);
    mbl_json_set(a, v, "added_tokens", added);
    mbl_json_set(a, v, "pre_tokenizer", bytes_step(a, prefix, true));
    mbl_json_set(a, v, "post_processor", post);
    mbl_json_set(a, v, "decoder", bytes_step(a, true, true));
    mbl_json_set(a, v, "model", model);
    *out = v;
    return 0;
}

/* -- reading lines */

/* The next line of a text, without its end; false at the text's end. */
static bool next_line(const struct mbl_buf *text, size_t *at, const char **line, size_t *length) {
    if (*at >= text->len) return false;
    *line = text->data + *at;
    const char *end = memchr(*line, '\n', text->len - *at);
    *length = end ? (size_t)(end - *line) : text->len - *at;
    *at += *length + (end != NULL);
    if (*length && (*line)[*length - 1] == '\r') --*length;
    return true;
}

static int read_lines(const char *path, struct mbl_buf *text, struct mbl_error *e) {
    if (mbl_file_read(path, FILE_MOST, text, e)) return -1;
    size_t bad = mbl_utf8_check(mbl_buf_str(text), text->len), line = 1;
    const void *nul = text->len ? memchr(text->data, 0, text->len) : NULL;
    if (bad == text->len && !nul) return 0;
    if (nul && (size_t)((const char *)nul - text->data) < bad) bad = (size_t)((const char *)nul - text->data);
    for (size_t i = 0; i < bad; i++) line += text->data[i] == '\n';
    return mbl_error_set(e, "%s:%zu: byte 0x%02x, but text in UTF-8 is expected", path, line, (unsigned)(unsigned char)text->data[bad]);
}

/* One token a line, whose number is its id; white space at its end is not part of it. Of two equal ones the later counts. */
static int read_vocab_txt(const char *path, struct mbl_arena *a, struct mbl_json **out, struct mbl_error *e) {
    struct mbl_buf text = {0};
    struct mbl_token_map ids;
    const char *line;
    size_t at = 0, length, count = 0, bytes;
    if (read_lines(path, &text, e)) {
        mbl_buf_free(&text);
        return -1;
    }
    while (next_line(&text, &at, &line, &length)) count++;
    const char **tokens = mbl_arena_alloc(a, (count + 1) * sizeof *tokens);
    mbl_token_map_open(&ids, count);
    at = count = 0;
    while (next_line(&text, &at, &line, &length)) {
        while (length) {
            size_t last = length - 1;
            while (last > 0 && ((unsigned char)line[last] & 0xc0) == 0x80) last--;
            if (!(mbl_unicode_classes(mbl_utf8_decode(line + last, &bytes)) & MBL_UNICODE_WHITE)) break;
            length = last;
        }
        tokens[count] = mbl_arena_strndup(a, line, length);
        mbl_token_map_set(&ids, tokens[count], length, (int32_t)count);
        count++;
    }
    *out = mbl_token_table(a, ids.count);
    for (size_t i = 0; i < count; i++)
        if (mbl_token_map_get(&ids, tokens[i], strlen(tokens[i])) == (int32_t)i) mbl_token_table_add(a, *out, tokens[i], (int64_t)i);
    mbl_token_map_free(&ids);
    mbl_buf_free(&text);
    return count ? 0 : mbl_error_set(e, "%s: no tokens in it; one a line is expected", path);
}

static int read_merges_txt(const char *path, struct mbl_arena *a, struct mbl_json **out, struct mbl_error *e) {
    struct mbl_buf text = {0};
    const char *line;
    size_t at = 0, length, number = 0;
    int failed = read_lines(path, &text, e);
    *out = mbl_json_list(a);
    while (!failed && next_line(&text, &at, &line, &length)) {
        number++;
        if (length >= 8 && !memcmp(line, "#version", 8)) continue;
        const char *space = memchr(line, ' ', length);
        if (!space || memchr(space + 1, ' ', (size_t)(line + length - space - 1))) {
            failed = mbl_error_set(e, "%s:%zu: \"%.*s\"; two tokens with a space between are expected", path, number,
                                   (int)(length > 100 ? 100 : length), line);
            break;
        }
        char *copy = mbl_arena_strndup(a, line, length);
        mbl_json_push(a, *out, mbl_json_string(a, copy));
    }
    mbl_buf_free(&text);
    return failed;
}

/* -- opening */

static bool is_there(const char *path) {
    struct stat st;
    return !stat(path, &st);
}

/* tokenizer_config.json, with what special_tokens_map.json adds; NULL if there is neither. */
static int read_config(struct mbl_arena *a, const char *folder, struct mbl_json **out, struct mbl_error *e) {
    static const char *const names[] = {"tokenizer_config.json", "special_tokens_map.json"};
    *out = NULL;
    for (size_t i = 0; i < 2; i++) {
        struct mbl_json *v;
        char *path = mbl_path_join(a, folder, names[i]);
        if (!is_there(path)) continue;
        if (mbl_json_read(path, a, &v, e)) return -1;
        if (v->type != MBL_JSON_TABLE) return mbl_error_set(e, "%s is %s; a table is expected", path, mbl_json_type_name(v->type));
        if (!*out) {
            *out = v;
            continue;
        }
        for (size_t k = 0; k < v->count; k++)
            if (!mbl_json_get(*out, v->keys[k])) mbl_json_set(a, *out, v->keys[k], v->items[k]);
    }
    return 0;
}

static int open_in(struct mbl_tokenizer *t, const char *folder, const char *file, struct mbl_error *e) {
    struct mbl_arena *a = &t->arena;
    struct mbl_json *json, *config, *vocab, *merges;
    const char *path = mbl_path_join(a, folder, file);
    if (read_config(a, folder, &config, e)) return -1;
    if (!strcmp(file, "vocab.txt")) {
        if (read_vocab_txt(path, a, &vocab, e) || mbl_wordpiece_json(a, vocab, config, path, &json, e)) return -1;
    } else if (!strcmp(file, "vocab.json")) {
        if (mbl_json_read(path, a, &vocab, e) || read_merges_txt(mbl_path_join(a, folder, "merges.txt"), a, &merges, e)) return -1;
        if (vocab->type != MBL_JSON_TABLE) return mbl_error_set(e, "%s is %s; a table of ids is expected", path,
                                                                mbl_json_type_name(vocab->type));
        if (mbl_bpe_json(a, vocab, merges, config, path, &json, e)) return -1;
    } else if (mbl_json_read(path, a, &json, e)) {
        return -1;
    }
    return mbl_tokenizer_build(t, json, config, path, e);
}

int mbl_tokenizer_open(const char *path, struct mbl_tokenizer **out, struct mbl_error *e) {
    static const char *const files[] = {"tokenizer.json", "vocab.txt", "vocab.json"};
    struct stat st;
    struct mbl_tokenizer *t = mbl_tokenizer_new();
    int failed = -1;
    *out = NULL;
    if (stat(path, &st)) {
        mbl_error_errno(e, "cannot read %s", path);
    } else if (S_ISDIR(st.st_mode)) {
        size_t i = 0;
        while (i < 3 && !is_there(mbl_path_join(&t->arena, path, files[i]))) i++;
        if (i < 3) failed = open_in(t, path, files[i], e);
        else mbl_error_set(e, "%s: no tokenizer.json, vocab.txt, or vocab.json with merges.txt in it", path);
    } else {
        const char *slash = strrchr(path, '/'), *file = slash ? slash + 1 : path;
        char *folder = slash ? mbl_arena_strndup(&t->arena, path, (size_t)(slash - path) + (slash == path))
            : mbl_arena_strdup(&t->arena, ".");
        failed = open_in(t, folder, strcmp(file, "merges.txt") ? file : "vocab.json", e);
    }
    if (failed) mbl_tokenizer_free(t);
    else *out = t;
    return failed;
}
