/* tags.c: whether a label's tags are those of the scheme that the rule names; see rows.h. */
#include "rows.h"
#include "lib/tagging.h"

#include <string.h>

int tags_fit(const struct table *t, const struct options *o, const struct rows *kept, struct mbl_error *e) {
    static const char *const names[] = {MBL_SCHEMES};
    const struct column *label = table_label(t);
    enum mbl_scheme scheme = MBL_PLAIN;
    struct breach rows = {0};
    struct mbl_buf text = {0};
    if (!strcmp(o->scheme, "auto")) return 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(names[i], o->scheme)) scheme = (enum mbl_scheme)i;
    for (size_t i = 0; i < kept->count; i++) {
        size_t row = kept->at[i];
        for (int64_t w = label->starts[row]; w < label->starts[row + 1]; w++) {
            const char *tag = label->dictionary.names[label->codes[w]];
            if (mbl_scheme_has(scheme, tag)) continue;
            breach_add(&rows, t, row, "the tag of word %lld is \"%.60s\"", (long long)(w - label->starts[row]) + 1, tag);
            break;
        }
    }
    char what[40] = "scheme = \"";
    strcat(strcat(what, o->scheme), "\"");
    breach_end(&rows, what, &text);
    int failed = text.len ? mbl_error_set(e, "%s", text.data) : 0;
    mbl_buf_free(&text);
    return failed;
}
