/* utf8.h: which bytes are UTF-8 (RFC 3629). */
#ifndef MBL_UTF8_H
#define MBL_UTF8_H

#include "export.h"
#include <stddef.h>

/* Length of the valid sequence that begins at s, of which n bytes are there; 0 if there is none. */
MBL_EXPORT size_t mbl_utf8_length(const char *s, size_t n);

/* Offset of the first byte that belongs to no valid sequence; n if all is UTF-8. */
MBL_EXPORT size_t mbl_utf8_check(const char *s, size_t n);

#endif
