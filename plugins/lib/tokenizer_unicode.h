/* tokenizer_unicode.h: characters as tokenizers see them: classes, lower case, normalization forms. Private to plugins/lib. */
#ifndef MBL_TOKENIZER_UNICODE_H
#define MBL_TOKENIZER_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    MBL_UNICODE_WHITE = 1,      /* White_Space, \s */
    MBL_UNICODE_PUNCT = 2,      /* ASCII's punctuation and categories P* */
    MBL_UNICODE_DROPPED = 4,    /* what BERT's cleaning takes out: control, format, private, unassigned, U+FFFD */
    MBL_UNICODE_NONSPACING = 8, /* category Mn */
    MBL_UNICODE_MARK = 16,      /* categories M* */
    MBL_UNICODE_LETTER = 32,    /* \p{L} */
    MBL_UNICODE_NUMBER = 64,    /* \p{N} */
    MBL_UNICODE_WORD = 128,     /* \w */
    MBL_UNICODE_NUMERIC = 256,  /* \p{N} of a later Unicode version, for Digits */
    MBL_UNICODE_CHANGES = 512   /* has a decomposition or a combining class for the normalization forms */
};

void mbl_unicode_open(void); /* once before all else; again is fine, from any thread */

extern uint16_t mbl_unicode_index[0x1100];
extern uint16_t mbl_unicode_pages[][256];

/* Classes of a code point up to U+10FFFF. */
static inline unsigned mbl_unicode_classes(uint32_t c) {
    return mbl_unicode_pages[mbl_unicode_index[c >> 8]][c & 255];
}

bool mbl_unicode_is_cjk(uint32_t c); /* the blocks that BERT parts by spaces */
uint32_t mbl_unicode_lower(uint32_t c); /* U+0130, whose lower case is i and U+0307, is 'i' here */

/* The code point at s, which is valid UTF-8; *length becomes its bytes. */
static inline uint32_t mbl_utf8_decode(const char *text, size_t *length) {
    const unsigned char *s = (const unsigned char *)text;
    if (s[0] < 0x80) return *length = 1, s[0];
    if (s[0] < 0xe0) return *length = 2, (uint32_t)(s[0] & 0x1f) << 6 | (s[1] & 0x3f);
    if (s[0] < 0xf0) return *length = 3, (uint32_t)(s[0] & 0x0f) << 12 | (uint32_t)(s[1] & 0x3f) << 6 | (s[2] & 0x3f);
    return *length = 4, (uint32_t)(s[0] & 7) << 18 | (uint32_t)(s[1] & 0x3f) << 12 | (uint32_t)(s[2] & 0x3f) << 6 | (s[3] & 0x3f);
}
size_t mbl_utf8_encode(uint32_t c, char out[4]); /* returns the bytes */

/* A character on its way through a normalization form. `change` is how the text grows there: 0, in place of one; 1, one more; -n, in
 * place of
 * one and n after it. */
struct mbl_unicode_char {
    uint32_t c;
    int32_t change;
    uint8_t combining;
};

enum mbl_unicode_form { MBL_UNICODE_NFD, MBL_UNICODE_NFC, MBL_UNICODE_NFKD, MBL_UNICODE_NFKC };

/* The form of a text, in *out (room for *cap, enlarged as needed); returns the characters. */
size_t mbl_unicode_normalize(const char *text, size_t length, enum mbl_unicode_form form, struct mbl_unicode_char **out, size_t *cap);

#endif
