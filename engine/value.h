/* value.h: a parameter's value, as rule files give it and steps read it, and its one text form, canonical JSON.
 *
 * Canonical: keys sorted by bytes, no spaces, integers as digits, floats in the shortest form that reads back the same
 * and an integral float as an integer ("1.0" is "1"), so equal values have equal text. NaN and infinity don't exist.
 */
#ifndef ENGINE_VALUE_H
#define ENGINE_VALUE_H

#include "err.h"
#include "mem.h"
#include <stdbool.h>

enum value_type { VALUE_NONE, VALUE_BOOL, VALUE_INT, VALUE_FLOAT, VALUE_STRING, VALUE_LIST, VALUE_TABLE };

struct value {
    enum value_type type;
    uint32_t count;                  /* elements of a list or table, bytes of a string */
    union {
        bool boolean;
        int64_t integer;
        double number;
        const char *string;          /* NUL-terminated; may hold no NUL of its own */
        struct {
            struct value *items;
            const char **keys;       /* table: sorted by bytes, no two alike */
        };
    };
};

/* Appends the canonical JSON of `v`. */
void value_write(const struct value *v, struct buf *out);

/* Appends `s` as a JSON string, quotes included; bytes that are not UTF-8 become U+FFFD. */
void value_write_string(const char *s, struct buf *out);

/* Parses JSON text into `arena`. Fails with the offset on anything that RFC 8259 doesn't allow, on duplicate keys,
 * NUL in a string, more than 64 levels. */
int value_parse(const char *text, size_t length, struct arena *arena, struct value *out, struct err *e);

/* A table's entry or NULL. */
const struct value *value_get(const struct value *table, const char *key);
const char *value_get_string(const struct value *table, const char *key); /* NULL if absent or no string */
int64_t value_get_int(const struct value *table, const char *key, int64_t otherwise);
double value_get_float(const struct value *table, const char *key, double otherwise);

/* The value at a path such as "optimizer.lr" or "layers[2].width"; "" is `root` itself; NULL if absent. */
const struct value *value_at(const struct value *root, const char *path);

/* Sorts a table's entries by key; -1 if two keys are alike (*twin is set). */
int value_sort(struct value *table, const char **twin);

bool value_equal(const struct value *a, const struct value *b);
double value_number(const struct value *v); /* of an int or float */

#endif
