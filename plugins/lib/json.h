/* json.h: JSON as a tree in an arena, for plugins: parsing (hostile input is the normal case), building, canonical writing.
 *
 * Canonical: keys sorted by bytes, floats in the shortest form that reads back the same, an integral float below 2^53 as an integer, so
 * that equal values have equal text. NaN and infinity don't exist in JSON; writing one gives null.
 */
#ifndef MBL_JSON_H
#define MBL_JSON_H

#include "memory.h"
#include <stdbool.h>

enum mbl_json_type { MBL_JSON_NULL, MBL_JSON_BOOL, MBL_JSON_INT, MBL_JSON_FLOAT, MBL_JSON_STRING, MBL_JSON_LIST, MBL_JSON_TABLE };

struct mbl_json {
    enum mbl_json_type type;
    size_t count;                  /* elements of a list or table, bytes of a string */
    size_t offset;                 /* where it began in the text, for messages */
    union {
        bool boolean;
        int64_t integer;
        double number;
        const char *string;        /* NUL-terminated, UTF-8; has no NUL of its own */
        struct {
            struct mbl_json **items;
            const char **keys;     /* of a table, beside the items: in the order of the text, or in which they were set */
            size_t cap;
        };
    };
};

/* Parses the whole of `text` into `arena`. Fails with line and column on anything that RFC 8259 doesn't allow, on bytes that are not UTF-8,
 * duplicate keys, NUL in a string, more than 64 levels. `name` is what the text is called in messages ("x.json"). A UTF-8 BOM
 * is skipped. */
MBL_EXPORT int mbl_json_parse(const char *text, size_t length, const char *name, struct mbl_arena *arena, struct mbl_json **out,
                              struct mbl_error *e);

/* Reads and parses a file of at most 256 MiB. */
MBL_EXPORT int mbl_json_read(const char *path, struct mbl_arena *arena, struct mbl_json **out, struct mbl_error *e);

/* -- Looking. All take NULL for the table and treat it as empty. */
MBL_EXPORT struct mbl_json *mbl_json_get(const struct mbl_json *table, const char *key);               /* NULL if absent */
MBL_EXPORT const char *mbl_json_get_string(const struct mbl_json *table, const char *key);             /* NULL if absent or no string */
MBL_EXPORT int64_t mbl_json_get_int(const struct mbl_json *table, const char *key, int64_t otherwise); /* integral floats too */
MBL_EXPORT double mbl_json_get_float(const struct mbl_json *table, const char *key, double otherwise);
MBL_EXPORT bool mbl_json_get_bool(const struct mbl_json *table, const char *key, bool otherwise);
MBL_EXPORT bool mbl_json_is_number(const struct mbl_json *v);
MBL_EXPORT double mbl_json_number(const struct mbl_json *v); /* of an int or float; NaN otherwise */
MBL_EXPORT const char *mbl_json_type_name(enum mbl_json_type type); /* "a number", "a list" … for messages */

/* -- Building. Strings are copied into the arena. */
MBL_EXPORT struct mbl_json *mbl_json_null(struct mbl_arena *a);
MBL_EXPORT struct mbl_json *mbl_json_bool(struct mbl_arena *a, bool v);
MBL_EXPORT struct mbl_json *mbl_json_int(struct mbl_arena *a, int64_t v);
MBL_EXPORT struct mbl_json *mbl_json_float(struct mbl_arena *a, double v);
MBL_EXPORT struct mbl_json *mbl_json_float32(struct mbl_arena *a, float v); /* the double with the shortest text that rounds to this float32 */
MBL_EXPORT struct mbl_json *mbl_json_string(struct mbl_arena *a, const char *v);
MBL_EXPORT struct mbl_json *mbl_json_list(struct mbl_arena *a);
MBL_EXPORT struct mbl_json *mbl_json_table(struct mbl_arena *a);
MBL_EXPORT void mbl_json_push(struct mbl_arena *a, struct mbl_json *list, struct mbl_json *v);
MBL_EXPORT void mbl_json_set(struct mbl_arena *a, struct mbl_json *table, const char *key, struct mbl_json *v); /* replaces */

/* -- Writing. Lists of plain values stay on one line when indented. */
enum { MBL_JSON_COMPACT = 0, MBL_JSON_INDENTED = 2 };
MBL_EXPORT void mbl_json_write(const struct mbl_json *v, int style, struct mbl_buf *out); /* indented ends with a newline */
MBL_EXPORT void mbl_json_write_string(const char *s, size_t n, struct mbl_buf *out); /* quotes included; what is not UTF-8 becomes U+FFFD */
MBL_EXPORT int mbl_json_save(const char *path, const struct mbl_json *v, struct mbl_error *e); /* indented, atomically */

#endif
