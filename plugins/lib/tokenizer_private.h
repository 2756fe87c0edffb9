/* tokenizer_private.h: what the files of tokenizers share. The way of a text: added tokens are cut out (tokenizer_added.c), what is left is
 * normalized (tokenizer_normalize.c), split into words (tokenizer_split.c), these are looked up by the model (tokenizer_wordpiece.c,
 * tokenizer_bpe.c), and the tokens get their frame (tokenizer_encode.c). tokenizer_read.c makes all this of tokenizer.json. */
#ifndef MBL_TOKENIZER_PRIVATE_H
#define MBL_TOKENIZER_PRIVATE_H

#include "json.h"
#include "tokenizer.h"
#include "tokenizer_unicode.h"

#define MBL_TOKENIZER_IDS_MOST (1 << 24)

uint64_t mbl_token_hash(const void *bytes, size_t n);

/* -- Strings to ids. */
struct mbl_token_map {
    struct mbl_token_slot {
        const char *text; /* NULL: free */
        uint32_t length, hash;
        int32_t id;
    } *slots;
    size_t mask, count;
};
void mbl_token_map_open(struct mbl_token_map *m, size_t count);          /* room for this many */
void mbl_token_map_set(struct mbl_token_map *m, const char *text, size_t length, int32_t id); /* text must last; replaces */
int32_t mbl_token_map_get(const struct mbl_token_map *m, const char *text, size_t length);    /* -1 if absent */
void mbl_token_map_free(struct mbl_token_map *m);

/* -- A trie: the longest string of a set that begins at some place. */
struct mbl_trie {
    uint64_t *edges; /* from << 40 | byte << 32 | to, hashed by the first two; 0: free */
    size_t mask, used;
    int32_t *ends; /* [nodes] the id of the string that ends there, or -1 */
    size_t nodes, cap;
};
void mbl_trie_open(struct mbl_trie *t);
void mbl_trie_add(struct mbl_trie *t, const char *text, size_t length, int32_t id);
uint32_t mbl_trie_step(const struct mbl_trie *t, uint32_t node, unsigned char byte); /* 0: there is no such edge; 0 is the root */
void mbl_trie_free(struct mbl_trie *t);

/* -- Text on its way. */

struct mbl_span {
    uint32_t begin, end;
};

/* A text. `from` says of each byte which bytes of the caller's text it comes from; NULL: byte i comes from the character around
 * base + i. */
struct mbl_token_text {
    const char *bytes;
    size_t length;
    const struct mbl_span *from;
    size_t base;
};
/* Room for such a text. */
struct mbl_token_room {
    char *bytes;
    struct mbl_span *from;
    size_t length, cap, from_cap;
};
struct mbl_token {
    int32_t id;
    uint32_t begin, end; /* in the caller's text, if offsets are wanted */
};

/* Replaces characters one by one and keeps track of where they come from. */
struct mbl_transform {
    struct mbl_token_text in;
    struct mbl_token_room *out;
    size_t at; /* bytes of `in` that were taken */
    bool offsets;
};
void mbl_transform_begin(struct mbl_transform *f, const struct mbl_token_text *in, struct mbl_token_room *out, bool offsets);
void mbl_transform_put(struct mbl_transform *f, uint32_t c, int32_t change); /* change: as in struct mbl_unicode_char */
void mbl_transform_copy(struct mbl_transform *f, size_t bytes);              /* as they are */
void mbl_transform_skip(struct mbl_transform *f, size_t bytes);
/* that come from what byte `like` of `in` comes from */
void mbl_transform_insert(struct mbl_transform *f, const char *bytes, size_t n, size_t like);
void mbl_transform_end(struct mbl_transform *f, struct mbl_token_text *text); /* what was written becomes the text */
/* Where the token of bytes begin … end comes from. */
void mbl_token_origin(const struct mbl_token_text *text, size_t begin, size_t end, struct mbl_token *out);

/* -- Steps, in their order. */
enum mbl_normalizer_kind { MBL_NORMALIZE_BERT, MBL_NORMALIZE_FORM, MBL_NORMALIZE_LOWER, MBL_NORMALIZE_STRIP_ACCENTS, MBL_NORMALIZE_STRIP,
                           MBL_NORMALIZE_PREPEND, MBL_NORMALIZE_REPLACE };
struct mbl_normalizer {
    enum mbl_normalizer_kind kind;
    enum mbl_unicode_form form;
    bool clean, cjk, accents, lower; /* BERT */
    bool left, right;                /* STRIP */
    const char *from, *to;           /* REPLACE; PREPEND has `to` */
    size_t from_length, to_length;
};

enum mbl_split_kind { MBL_SPLIT_BERT, MBL_SPLIT_WHITESPACE, MBL_SPLIT_WHITE, MBL_SPLIT_PUNCTUATION, MBL_SPLIT_DIGITS, MBL_SPLIT_PATTERN,
                      MBL_SPLIT_LITERAL, MBL_SPLIT_METASPACE, MBL_SPLIT_BYTES };
enum mbl_split_behavior { MBL_SPLIT_REMOVED, MBL_SPLIT_ISOLATED, MBL_SPLIT_PREVIOUS, MBL_SPLIT_NEXT, MBL_SPLIT_CONTIGUOUS };
enum mbl_prepend { MBL_PREPEND_NEVER, MBL_PREPEND_FIRST, MBL_PREPEND_ALWAYS };
struct mbl_splitter {
    enum mbl_split_kind kind;
    enum mbl_split_behavior behavior;
    bool invert, single_digits, prefix_space, split;
    size_t (*match)(const char *s, size_t n); /* PATTERN: bytes of the piece that begins at s */
    const char *text;                         /* LITERAL; METASPACE's replacement */
    size_t text_length;
    enum mbl_prepend prepend;
};

enum mbl_decoder_kind { MBL_DECODE_BYTES, MBL_DECODE_WORDPIECE, MBL_DECODE_METASPACE, MBL_DECODE_FALLBACK, MBL_DECODE_FUSE,
    MBL_DECODE_STRIP,
                        MBL_DECODE_REPLACE, MBL_DECODE_SUFFIX };
struct mbl_decoder {
    enum mbl_decoder_kind kind;
    const char *from, *to;
    size_t from_length, to_length;
    size_t start, stop; /* STRIP */
    bool cleanup, prepend;
};

/* What stands around the texts: parts of a template. */
struct mbl_frame_part {
    int sequence;   /* 0, 1: the first, second text; -1: the ids */
    uint8_t type;
    int32_t *ids;
    size_t count;
};
struct mbl_frame {
    struct mbl_frame_part *parts;
    size_t count, added;
};

struct mbl_added_token {
    const char *text, *normal; /* normal: what it is after the normalizers */
    int32_t id;
    bool single_word, lstrip, rstrip, normalized, special;
};
/* Added tokens that are looked for at one stage. */
struct mbl_added_set {
    struct mbl_trie trie;
    bool first[256];
    bool any;
};

struct mbl_merge {
    uint64_t pair; /* left + 1 << 32 | right; 0: free */
    uint32_t rank;
    int32_t id;
};

struct mbl_tokenizer {
    struct mbl_arena arena;
    uint64_t serial;             /* tells tokenizers apart, for caches */
    const struct mbl_json *json; /* tokenizer.json, and … */
    const struct mbl_json *config; /* … tokenizer_config.json; NULL if there is none */
    bool bpe;
    /* vocabulary */
    struct mbl_token_map vocabulary;
    const char **tokens; /* [size] by id; NULL in gaps */
    size_t size, model_size; /* with and without added tokens */
    struct mbl_special_ids special;
    size_t max_length;
    /* added tokens, by id */
    struct mbl_added_token *added;
    size_t added_count;
    int32_t *added_by_id; /* [size] index in `added`, or -1 */
    struct mbl_added_set raw, normal;
    /* steps */
    struct mbl_normalizer *normalizers;
    size_t normalizer_count;
    struct mbl_splitter *splitters;
    size_t splitter_count;
    struct mbl_decoder *decoders;
    size_t decoder_count;
    struct mbl_frame frames[2]; /* of one text and of two */
    bool trim, trim_prefix;     /* offsets leave out spaces; … but for the one that was put in front */
    /* models */
    bool origins;               /* a step has to know where text comes from */
    bool rewrites;              /* a splitter writes text anew */
    bool chunked;               /* words between ASCII spaces can be looked up before they are normalized */
    int32_t unk;                /* -1: none */
    size_t most_chars;          /* WordPiece: characters of a word */
    struct mbl_trie pieces;     /* WordPiece */
    uint32_t inner;             /* the node behind the prefix of pieces inside words */
    bool has_inner;
    struct mbl_merge *merges;   /* BPE, hashed */
    size_t merge_mask;
    bool bytes;                 /* byte-level */
    bool fallback, fuse_unk, whole_words;
    int32_t byte_ids[256];      /* of the one-byte tokens, byte-level or <0x..>; -1: none */
    struct mbl_token_map raw_tokens; /* byte-level and whole_words: by the bytes that they stand for */
};

/* -- Scratch of one thread. */
struct mbl_symbol {
    int32_t id, previous, next;
    uint32_t length;
};
struct mbl_heap_entry {
    uint32_t rank, place;
    int32_t id;
};
struct mbl_cache_slot {
    uint32_t hash, key, value; /* places in keys and values */
    uint16_t length, count;    /* of the key, in bytes; 0: free. Of the values */
};
struct mbl_cached_token {
    int32_t id;
    uint16_t begin, end; /* from the word's beginning */
};
struct mbl_encode_work {
    uint64_t serial; /* of the tokenizer that the cache belongs to */
    bool offsets;
    struct mbl_token_room rooms[2];
    struct mbl_unicode_char *chars;
    size_t char_cap;
    struct mbl_span *words, *spare;
    size_t word_count, word_cap, spare_cap;
    struct mbl_token *tokens;
    size_t count, cap;
    const size_t *ends; /* of words that were split before: behind each one's last token; NULL otherwise */
    struct mbl_symbol *symbols;
    size_t symbol_cap;
    struct mbl_heap_entry *heap;
    size_t heap_count, heap_cap;
    struct mbl_cache_slot *slots;
    size_t slot_used;
    char *keys;
    size_t key_used;
    struct mbl_cached_token *values;
    size_t value_used;
};
void mbl_work_close(struct mbl_encode_work *w);

/* Adds a token: of bytes begin … end of the text that is at work. */
void mbl_work_add(struct mbl_encode_work *w, int32_t id, size_t begin, size_t end);

/* Words seen before. mbl_cache_get adds a word's tokens, if it knows them, as if it began at `begin`; mbl_cache_put remembers the tokens
 * from `first`
 * on as those of the word that began there. */
#define MBL_CACHE_KEY_MOST 64
void mbl_cache_open(struct mbl_encode_work *w, uint64_t serial, bool offsets); /* forgets what another tokenizer put there */
bool mbl_cache_get(struct mbl_encode_work *w, const char *word, size_t length, size_t begin);
void mbl_cache_put(struct mbl_encode_work *w, const char *word, size_t length, size_t begin, size_t first);

struct mbl_token_room *mbl_work_room(struct mbl_encode_work *w, const struct mbl_token_text *text); /* one that `text` doesn't lie in */

/* Runs the normalizers; *text may come to lie in one of the rooms. */
void mbl_normalize_text(const struct mbl_tokenizer *t, struct mbl_encode_work *w, struct mbl_token_text *text);
/* Splits into w->words; *text may come to lie in another room. */
void mbl_split(const struct mbl_tokenizer *t, struct mbl_encode_work *w, struct mbl_token_text *text);
#define MBL_GPT2_PATTERN "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
size_t (*mbl_split_pattern(const char *regex))(const char *s, size_t n); /* NULL: a regular expression that isn't known */
void mbl_wordpiece_word(const struct mbl_tokenizer *t, struct mbl_encode_work *w, const struct mbl_token_text *text, size_t begin,
                        size_t end);
void mbl_bpe_word(const struct mbl_tokenizer *t, struct mbl_encode_work *w, const struct mbl_token_text *text, size_t begin, size_t end);
int mbl_bpe_open(struct mbl_tokenizer *t, const struct mbl_json *model, const char *name, struct mbl_error *e);
int mbl_wordpiece_open(struct mbl_tokenizer *t, const struct mbl_json *model, const char *name, struct mbl_error *e);

/* Added tokens. */
void mbl_added_open(struct mbl_tokenizer *t);
/* The next one at or after *at in s; what is before it ends at *begin, what comes after begins at *end. NULL: there is none. */
const struct mbl_added_token *mbl_added_find(const struct mbl_tokenizer *t, const struct mbl_added_set *set, const char *s, size_t n,
                                             size_t *at,
                                             size_t *begin, size_t *end);

/* The bytes that a byte-level token's text stands for, or NULL if it has a character that stands for none; in the arena. */
char *mbl_bytes_of_token(const char *token, struct mbl_arena *a, size_t *length);
extern const uint16_t mbl_byte_chars[256]; /* GPT-2's character for each byte */

/* Makes a tokenizer of tokenizer.json as a tree, which with `config` (or NULL) must lie in t->arena. `name` is for messages. */
int mbl_tokenizer_build(struct mbl_tokenizer *t, const struct mbl_json *json, const struct mbl_json *config, const char *name,
                        struct mbl_error *e);
struct mbl_tokenizer *mbl_tokenizer_new(void);

#endif
