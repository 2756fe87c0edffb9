/* ui_text.c: text from outside, made fit for a terminal; see ui_private.h.
 *
 * Names, messages and output of steps may hold anything. A terminal must get no escape sequence of theirs, and a line
 * no more columns than it has. Columns are those of the C library's Unicode tables, whatever locale the user has.
 */
#include "ui_private.h"

#include <locale.h>
#include <string.h>
#include <wchar.h>

/* Decodes one character of valid UTF-8 (RFC 3629); returns its bytes, 0 if there is none. */
static size_t decode(const char *text, uint32_t *c) {
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *s = (const unsigned char *)text;
    size_t n = s[0] < 0x80 ? 1 : s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : s[0] >= 0xc0 ? 2 : 0;
    if (n < 2) {
        *c = s[0];
        return n;
    }
    if (s[0] > 0xf4) return 0;
    *c = s[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) return 0;
        *c = *c << 6 | (s[i] & 0x3fu);
    }
    return *c < least[n] || *c > 0x10ffff || (*c >= 0xd800 && *c <= 0xdfff) ? 0 : n;
}

/* Marks that make text look like other text: U+061C, U+200E… and the overrides and isolates of Unicode's bidi algorithm. */
static bool reorders(uint32_t c) {
    return c == 0x61c || (c >= 0x200e && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) || c == 0xfeff;
}

/* The bytes of an escape sequence (ECMA-48): CSI … letter, OSC and the like … BEL or ST, or two characters. */
static size_t escape_length(const char *s) {
    size_t n = 1;
    if (s[1] == '[') {
        for (n = 2; s[n] >= 0x20 && s[n] <= 0x3f;) n++;
        return s[n] >= 0x40 && s[n] <= 0x7e ? n + 1 : n;
    }
    if (s[1] && strchr("]PX^_", s[1])) {
        for (n = 2; s[n] && s[n] != '\a' && s[n] != '\n';) {
            if (s[n] == '\033') return s[n + 1] == '\\' ? n + 2 : n;
            n++;
        }
        return s[n] == '\a' ? n + 1 : n;
    }
    while (s[n] >= 0x20 && s[n] <= 0x2f) n++;
    return s[n] >= 0x30 && s[n] <= 0x7e ? n + 1 : n;
}

void ui_clean(struct buf *b, const char *text, bool one_line) {
    while (*text) {
        uint32_t c;
        size_t n = decode(text, &c);
        if (!n) {
            buf_adds(b, "\xef\xbf\xbd");
            n = 1;
        } else if (c == '\033') {
            n = escape_length(text);
        } else if (c == '\n' || c == '\t') {
            buf_addc(b, one_line ? ' ' : (char)c);
        } else if (c >= 0x20 && !(c >= 0x7f && c < 0xa0) && !reorders(c)) {
            buf_add(b, text, n);
        }
        text += n;
    }
}

/* The C library knows widths only within a locale; ours never changes what the program's own is. */
static int width_of(uint32_t c) {
    static locale_t utf8;
    static bool asked;
    if (c < 0x7f) return c >= 0x20;
    if (!asked) {
        asked = true;
        utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    }
    if (!utf8) return 1;
    locale_t old = uselocale(utf8);
    int width = wcwidth((wchar_t)c);
    uselocale(old);
    return width < 0 ? 1 : width; /* terminals show one box for what they don't know */
}

uint32_t ui_columns(const char *text) {
    uint32_t columns = 0, c;
    for (size_t n; *text; text += n) {
        n = decode(text, &c);
        if (!n) n = 1, c = 0xfffd;
        columns += (uint32_t)width_of(c);
    }
    return columns;
}

/* How many bytes take at most so many columns; characters of no width go with the one before. */
static size_t fitting(const char *text, uint32_t columns) {
    size_t bytes = 0, n;
    uint32_t used = 0, c;
    for (; text[bytes]; bytes += n) {
        n = decode(text + bytes, &c);
        if (!n) n = 1, c = 0xfffd;
        used += (uint32_t)width_of(c);
        if (used > columns) break;
    }
    return bytes;
}

void ui_add_fit(struct buf *b, const char *text, uint32_t columns) {
    size_t n = fitting(text, columns);
    if (text[n] && columns) {
        buf_add(b, text, fitting(text, columns - 1));
        buf_adds(b, "…");
    } else {
        buf_add(b, text, n);
    }
}

void ui_add_padded(struct buf *b, const char *text, uint32_t columns) {
    uint32_t used = ui_columns(text);
    if (used > columns) used = columns; /* "…" may leave one free beside a wide character */
    size_t from = b->len;
    ui_add_fit(b, text, columns);
    if (b->len > from) used = ui_columns(b->data + from);
    for (; used < columns; used++) buf_addc(b, ' ');
}

size_t ui_break_line(const char *text, uint32_t columns) {
    size_t n = fitting(text, columns), space = n;
    if (!text[n]) return n;
    while (space && text[space] != ' ') space--;
    if (space) return space;
    return n ? n : strcspn(text + 1, " ") + 1;
}
