/* record.h: release records: releases/rN.json, JSON, each written once.
 *
 * { "kind": "release", "format": 1, "number": N, "project", "version",
 *   "bundle": { "path", "sha256", "size" }, "gates": [ { "path", "sha256", "report" } ], "scores": {…} or null,
 *   "signature": { "path", "sha256", "algorithm", "key", "public_key", "fingerprint" } or null,
 *   "lineage": {…}, "previous": { "name": "rM", "sha256": of its file } or null,
 *   "seal": SHA-256 of the canonical JSON of all the rest }
 *
 * The seal finds a careless edit, the chain of "previous" a careful one in any record but the last.
 */
#ifndef RELEASE_RECORD_H
#define RELEASE_RECORD_H

#include "lib/json.h"
#include "lib/sha256.h"

struct record {
    long number;
    const char *name, *path;  /* "r1", "releases/r1.json" */
    char sha256[MBL_SHA256_HEX + 1]; /* of the file */
    struct mbl_json *json;
    const char *damage;       /* what is wrong with it; NULL: nothing */
};

struct records {
    struct mbl_arena arena;
    struct record *items;     /* by number */
    size_t count, cap;
};

/* Reads all records in a folder, which may be absent, and checks seals and chain. A damaged record is told in `damage`, not by failing. */
int records_read(const char *folder, struct records *out, struct mbl_error *e);
void records_free(struct records *r);
const struct record *records_find(const struct records *r, const char *name); /* "r3"; NULL if there is none */

const char *record_text(const struct record *r, const char *dotted); /* a string member, "" if it has none: "bundle.sha256" */

/* What makes a release what it is: version, bundle, gates' reports, key and signature, but not number, history and lineage. In the arena.
 */
const char *record_identity(const struct mbl_json *record, struct mbl_arena *a);

/* Adds the seal, and writes the record's text. */
void record_seal(struct mbl_json *record, struct mbl_arena *a, struct mbl_buf *text);

#endif
