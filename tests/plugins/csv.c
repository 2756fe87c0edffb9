/* csv.c: RFC 4180, its relatives, and what is neither. */
#include "lib/csv.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>

/* All rows of a text, fields in [], rows ended by their line; or the error. */
static const char *rows_of(const char *text, size_t n, char separator) {
    static struct mbl_buf out;
    struct mbl_csv csv;
    struct mbl_error e;
    struct mbl_stream *s = mbl_stream_memory(text, n, "x.csv");
    int got = mbl_csv_open(&csv, s, separator, &e) ? -1 : 1;
    out.len = 0;
    mbl_buf_adds(&out, "");
    while (got > 0 && (got = mbl_csv_next(&csv, &e)) > 0) {
        for (size_t i = 0; i < csv.count; i++) mbl_buf_addf(&out, "[%s]", csv.fields[i].text);
        mbl_buf_addf(&out, "%lld ", (long long)csv.line);
    }
    if (got < 0) {
        out.len = 0;
        mbl_buf_adds(&out, e.text);
    }
    mbl_csv_close(&csv);
    mbl_stream_close(s);
    return out.data;
}

#define ROWS(text, expected) CHECK_STR(rows_of(text, sizeof(text) - 1, 0), expected)
#define REFUSED(text, message) CHECK_CONTAINS(rows_of(text, sizeof(text) - 1, 0), message)

TEST("fields may be quoted, hold separators, line ends and doubled quotes, and be empty") {
    ROWS("a,b\n1,2\n", "[a][b]1 [1][2]2 ");
    ROWS("\"a,\"\"b\"\"\",\"\"\n,", "[a,\"b\"][]1 [][]2 ");
    ROWS("\"x\ny\",1\r\n\"p\r\nq\",2\n3,4", "[x\ny][1]1 [p\r\nq][2]3 [3][4]5 ");
    ROWS("\"x\ry\",1\n2,3\n", "[x\ry][1]1 [2][3]3 ");
}

TEST("lines end in LF, CRLF or CR, the last one perhaps in nothing, and empty ones are passed over") {
    ROWS("a,b\r\n\r\n1,2\r\n", "[a][b]1 [1][2]3 ");
    ROWS("a,b\r1,2\r", "[a][b]1 [1][2]2 ");
    ROWS("\n\na\n", "[a]3 ");
    ROWS("", "");
}

TEST("a byte order mark is no part of the first name, and UTF-16 is told what it is") {
    ROWS("\xef\xbb\xbf"
         "a,b\n",
         "[a][b]1 ");
    REFUSED("\xff\xfe" "a\0,\0b\0", "x.csv:1: this is UTF-16");
}

TEST("the separator is the one that stands most often in the first line, outside quotes") {
    ROWS("a;b;c\n1,5;2;3\n", "[a][b][c]1 [1,5][2][3]2 ");
    ROWS("a\tb\n1\t2\n", "[a][b]1 [1][2]2 ");
    ROWS("\"a;b;c\",d\n", "[a;b;c][d]1 ");
    CHECK_STR(rows_of("a,b|c\n", 6, '|'), "[a,b][c]1 ");
}

TEST("a quote within an unquoted field is itself") {
    ROWS("5\" disk,x\n", "[5\" disk][x]1 ");
}

TEST("what is no CSV is refused with its line") {
    REFUSED("a\n\"b\nc", "x.csv:2: the quote that is opened here is never closed");
    REFUSED("a,b\n\"x\"y,2\n", "x.csv:2: after a closing quote");
    REFUSED("a\n\nb\0c\n", "x.csv:3: a NUL byte");
    REFUSED("a\n\xe9t\xe9\n", "x.csv:2: bytes that are not UTF-8");
}

TEST("rows of any length cross the reader's blocks unharmed") {
    enum { ROWS_COUNT = 40, FIELD = 30011 };
    size_t cap = (size_t)ROWS_COUNT * (FIELD + 32), n = 0;
    char *text = malloc(cap);
    for (int i = 0; i < ROWS_COUNT; i++) {
        text[n++] = '"';
        for (int k = 0; k < FIELD; k++) text[n++] = k % 977 == 0 ? '\n' : k % 2 ? 'x' : ',';
        memcpy(text + n, "\"\"\",7\r\n", 7);
        n += 7;
    }
    struct mbl_csv csv;
    struct mbl_error e;
    struct mbl_stream *s = mbl_stream_memory(text, n, "x.csv");
    int rows = 0, line = 1;
    CHECK(!mbl_csv_open(&csv, s, ',', &e));
    while (mbl_csv_next(&csv, &e) > 0) {
        CHECK_EQ(csv.count, 2);
        CHECK_EQ(csv.fields[0].length, FIELD + 1);
        CHECK_STR(csv.fields[1].text, "7");
        CHECK_EQ(csv.line, line);
        rows++;
        line += 1 + (FIELD + 976) / 977;
    }
    CHECK_EQ(rows, ROWS_COUNT);
    mbl_csv_close(&csv);
    mbl_stream_close(s);
    free(text);
}
