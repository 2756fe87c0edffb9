/* tokenizer_unicode.c: characters as tokenizers see them; see tokenizer_unicode.h.
 *
 * Classes and lower case come from a table, since each part of `tokenizers` goes by a Unicode version of its own. Decompositions and
 * combining
 * classes are utf8proc's: Unicode never changes these once a character is assigned, so the table only says which characters were
 * assigned for
 * the package; all others are taken as they are, whatever utf8proc's version knows of them.
 */
#include "tokenizer_unicode.h"
#include "memory.h"
#include "tokenizer_unicode_data.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define COMPOSITIONS 4096 /* slots, of which fewer than a quarter are taken */

uint16_t mbl_unicode_index[0x1100];
uint16_t mbl_unicode_pages[UNICODE_DISTINCT_PAGES][256];

static struct {
    uint32_t first, second, both;
} unicode_compositions[COMPOSITIONS];

static unsigned composition_slot(uint32_t first, uint32_t second) {
    return (unsigned)((first * 0x9e3779b1u ^ second * 0x85ebca6bu) >> 20) % COMPOSITIONS;
}

/* Canonical pairs that Unicode composes: those that utf8proc puts together again. */
static void unicode_learn_composition(uint32_t c) {
    int boundary = 0;
    utf8proc_int32_t full[8], pair[2];
    const utf8proc_property_t *p = utf8proc_get_property((utf8proc_int32_t)c);
    if (p->decomp_type || p->decomp_seqindex == UINT16_MAX || p->comp_exclusion) return;
    utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)c, full, 8, UTF8PROC_DECOMPOSE, &boundary);
    if (n < 2 || n > 8) return;
    /* The pair is all but the last character, composed, and the last. */
    pair[1] = full[n - 1];
    utf8proc_ssize_t left = utf8proc_normalize_utf32(full, n - 1, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    if (left != 1) return;
    pair[0] = full[0];
    unsigned slot = composition_slot((uint32_t)pair[0], (uint32_t)pair[1]);
    while (unicode_compositions[slot].both) slot = (slot + 1) % COMPOSITIONS;
    unicode_compositions[slot].first = (uint32_t)pair[0];
    unicode_compositions[slot].second = (uint32_t)pair[1];
    unicode_compositions[slot].both = c;
}

static void unicode_build(void) {
    uint16_t page[256];
    size_t pages = 0, run = 0;
    for (uint32_t p = 0; p < 0x1100; p++) {
        for (uint32_t i = 0; i < 256; i++) {
            while (run + 1 < COUNT(unicode_runs) && unicode_runs[run + 1] >> 11 <= (p << 8 | i)) run++;
            page[i] = unicode_runs[run] & 0x7ff;
        }
        size_t same = 0;
        while (same < pages && memcmp(mbl_unicode_pages[same], page, sizeof page)) same++;
        if (same == pages) memcpy(mbl_unicode_pages[pages++], page, sizeof page);
        mbl_unicode_index[p] = (uint16_t)same;
    }
    for (uint32_t c = 0xc0; c < 0x30000; c++)
        if (mbl_unicode_classes(c) & MBL_UNICODE_CHANGES && (c < 0xac00 || c >= 0xac00 + 11172)) unicode_learn_composition(c);
}

void mbl_unicode_open(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, unicode_build);
}

bool mbl_unicode_is_cjk(uint32_t c) {
    static const uint32_t blocks[][2] = {{0x4e00, 0x9fff},   {0x3400, 0x4dbf},   {0x20000, 0x2a6df}, {0x2a700, 0x2b73f},
                                         {0x2b740, 0x2b81f}, {0x2b920, 0x2ceaf}, {0xf900, 0xfaff},   {0x2f800, 0x2fa1f}};
    if (c < 0x3400) return false;
    for (size_t i = 0; i < COUNT(blocks); i++)
        if (c >= blocks[i][0] && c <= blocks[i][1]) return true;
    return false;
}

uint32_t mbl_unicode_lower(uint32_t c) {
    if (c < 0x80) return c >= 'A' && c <= 'Z' ? c + 32 : c;
    if (c == 0x130) return 'i';
    size_t low = 0, high = COUNT(unicode_lower);
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (unicode_lower[middle].last < c) low = middle + 1;
        else high = middle;
    }
    if (low == COUNT(unicode_lower) || c < unicode_lower[low].first) return c;
    if ((c - unicode_lower[low].first) % (uint32_t)unicode_lower[low].step) return c;
    return (uint32_t)((int32_t)c + unicode_lower[low].delta);
}

size_t mbl_utf8_encode(uint32_t c, char out[4]) {
    if (c < 0x80) return out[0] = (char)c, 1;
    if (c < 0x800) return out[0] = (char)(0xc0 | c >> 6), out[1] = (char)(0x80 | (c & 0x3f)), 2;
    if (c < 0x10000)
        return out[0] = (char)(0xe0 | c >> 12), out[1] = (char)(0x80 | (c >> 6 & 0x3f)), out[2] = (char)(0x80 | (c & 0x3f)), 3;
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3f));
    out[2] = (char)(0x80 | (c >> 6 & 0x3f));
    out[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

/* -- normalization forms (UAX #15) */

static uint8_t unicode_combining(uint32_t c) {
    if (!(mbl_unicode_classes(c) & MBL_UNICODE_CHANGES)) return 0;
    return (uint8_t)utf8proc_get_property((utf8proc_int32_t)c)->combining_class;
}

/* Hangul is composed by arithmetic (Unicode 3.12), all else by the table; 0: these two don't compose. */
static uint32_t unicode_compose(uint32_t first, uint32_t second) {
    if (first - 0x1100 < 19 && second - 0x1161 < 21) return 0xac00 + ((first - 0x1100) * 21 + (second - 0x1161)) * 28;
    if (first - 0xac00 < 11172 && (first - 0xac00) % 28 == 0 && second - 0x11a8 < 27) return first + (second - 0x11a7);
    unsigned slot = composition_slot(first, second);
    for (; unicode_compositions[slot].both; slot = (slot + 1) % COMPOSITIONS)
        if (unicode_compositions[slot].first == first && unicode_compositions[slot].second == second)
            return unicode_compositions[slot].both;
    return 0;
}

/* Puts characters of combining class > 0 behind one starter in the order of their classes; those of one class stay in theirs. */
static void unicode_order(struct mbl_unicode_char *run, size_t n) {
    for (size_t i = 1; i < n; i++)
        if (run[i].combining < run[i - 1].combining) goto unordered;
    return;
unordered:;
    /* A counting sort, so that a text of marks alone costs no more than its length. */
    struct mbl_unicode_char *copy = mbl_alloc(n * sizeof *copy);
    size_t starts[257] = {0};
    memcpy(copy, run, n * sizeof *copy);
    for (size_t i = 0; i < n; i++) starts[copy[i].combining + 1]++;
    for (size_t i = 1; i < 257; i++) starts[i] += starts[i - 1];
    for (size_t i = 0; i < n; i++) run[starts[copy[i].combining]++] = copy[i];
    free(copy);
}

static size_t unicode_recompose(struct mbl_unicode_char *v, size_t n) {
    size_t out = 0;
    for (size_t i = 0; i < n;) {
        struct mbl_unicode_char starter = v[i++];
        if (starter.combining) { /* marks without a starter stay */
            v[out++] = starter;
            continue;
        }
        size_t place = out++;
        int last = -1; /* combining class of the mark kept last; none so far: neighbours compose even if both are starters */
        for (; i < n; i++) {
            struct mbl_unicode_char next = v[i];
            uint32_t both = last >= 0 && last >= next.combining ? 0 : unicode_compose(starter.c, next.c);
            if (both) {
                starter.c = both;
                starter.change += next.change - 1;
            } else if (next.combining == 0) {
                break;
            } else {
                v[out++] = next;
                last = next.combining;
            }
        }
        v[place] = starter;
    }
    return out;
}

size_t mbl_unicode_normalize(const char *text, size_t length, enum mbl_unicode_form form, struct mbl_unicode_char **out, size_t *cap) {
    utf8proc_int32_t parts[32];
    size_t n = 0, bytes, run = 0;
    int options = UTF8PROC_DECOMPOSE | (form == MBL_UNICODE_NFKD || form == MBL_UNICODE_NFKC ? UTF8PROC_COMPAT : 0);
    for (size_t at = 0; at < length; at += bytes) {
        uint32_t c = mbl_utf8_decode(text + at, &bytes);
        utf8proc_ssize_t count = 1;
        int boundary = 0;
        parts[0] = (utf8proc_int32_t)c;
        if (c >= 0x80 && mbl_unicode_classes(c) & MBL_UNICODE_CHANGES) {
            count = utf8proc_decompose_char((utf8proc_int32_t)c, parts, (utf8proc_ssize_t)COUNT(parts), options, &boundary);
            if (count < 1 || count > (utf8proc_ssize_t)COUNT(parts)) parts[0] = (utf8proc_int32_t)c, count = 1;
        }
        *out = mbl_grow(*out, cap, n + (size_t)count, sizeof **out);
        for (utf8proc_ssize_t i = 0; i < count; i++) {
            uint8_t combining = parts[i] < 0x80 ? 0 : unicode_combining((uint32_t)parts[i]);
            if (combining == 0) {
                unicode_order(*out + run, n - run);
                run = n + 1;
            }
            (*out)[n++] = (struct mbl_unicode_char){(uint32_t)parts[i], i > 0, combining};
        }
    }
    if (run < n) unicode_order(*out + run, n - run);
    return form == MBL_UNICODE_NFC || form == MBL_UNICODE_NFKC ? unicode_recompose(*out, n) : n;
}
