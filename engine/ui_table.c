/* ui_table.c: aligned columns for the subcommands; see ui.h.
 *
 * Into a file or pipe a row is one line, whatever its length, so that grep finds it whole. On a terminal the last column is
 * broken between words where it meets the edge.
 */
#include "ui_private.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GAP 2
#define NARROWEST 16 /* the last column isn't broken into less */

static void pad(struct buf *b, uint32_t columns) {
    while (columns--) buf_addc(b, ' ');
}

static void add_broken(struct buf *b, const char *text, uint32_t indent, uint32_t columns) {
    for (;;) {
        size_t n = ui_break_line(text, columns);
        buf_add(b, text, n);
        for (text += n; *text == ' ';) text++;
        if (!*text) return;
        buf_addc(b, '\n');
        pad(b, indent);
    }
}

void ui_table(int fd, const char *const *cells, uint32_t rows, uint32_t columns, bool header) {
    if (!rows || !columns) return;
    uint32_t terminal = isatty(fd) ? (uint32_t)ui_width(fd) : 0, indent = 0;
    uint32_t *widths = mem_alloc(columns * sizeof *widths);
    char **clean = mem_alloc((size_t)rows * columns * sizeof *clean);
    for (size_t i = 0; i < (size_t)rows * columns; i++) {
        struct buf b = {0};
        if (cells[i]) ui_clean(&b, cells[i], true);
        clean[i] = b.data;
        uint32_t used = ui_columns(buf_str(&b));
        if (used > widths[i % columns]) widths[i % columns] = used;
    }
    for (uint32_t c = 0; c + 1 < columns; c++) indent += widths[c] ? widths[c] + GAP : 0;
    bool colored = ui_colored(fd, UI_COLOR_AUTO), broken = terminal >= indent + NARROWEST && terminal < indent + widths[columns - 1];
    struct buf out = {0};
    for (uint32_t r = 0; r < rows; r++) {
        uint32_t owed = 0; /* spaces that only count if something follows */
        if (header && !r && colored) buf_adds(&out, "\033[1m");
        for (uint32_t c = 0; c < columns; c++) {
            const char *text = clean[(size_t)r * columns + c] ? clean[(size_t)r * columns + c] : "";
            if (*text) {
                pad(&out, owed);
                owed = 0;
                if (broken && c + 1 == columns) add_broken(&out, text, indent, terminal - indent);
                else buf_adds(&out, text);
            }
            owed += widths[c] - ui_columns(text) + (widths[c] ? GAP : 0);
        }
        buf_adds(&out, header && !r && colored ? "\033[0m\n" : "\n");
    }
    ui_write(fd, out.data, out.len); /* nobody reads? then nobody needs it */
    buf_free(&out);
    for (size_t i = 0; i < (size_t)rows * columns; i++) free(clean[i]);
    free(clean);
    free(widths);
}
