/* signing.h: keys, and signatures as OpenSSF model signing v1 has them (github.com/sigstore/model-transparency,
 * docs/model_signing_format.md): a Sigstore bundle in JSON around a DSSE envelope around an in-toto statement that lists every file with
 * its SHA-256. `model_signing verify key MODEL --signature S --public_key P` accepts what is made here with an ECDSA key.
 */
#ifndef MBL_SIGNING_H
#define MBL_SIGNING_H

#include "json.h"
#include "sha256.h"

struct mbl_key;

/* A private key in PEM: ECDSA on P-256, P-384 or P-521, or Ed25519. */
MBL_EXPORT int mbl_key_read(const char *path, struct mbl_key **out, struct mbl_error *e);

/* Makes a key at `path` (mode 0600, its folder 0700) unless one is there, and reads it. Of two that make one at once, both get the same.
 * `algorithm` is "ecdsa-p256" or "ed25519". */
MBL_EXPORT int mbl_key_make(const char *path, const char *algorithm, struct mbl_key **out, struct mbl_error *e);

/* A public key in PEM. */
MBL_EXPORT int mbl_key_read_public(const char *path, struct mbl_key **out, struct mbl_error *e);
MBL_EXPORT int mbl_key_parse_public(const char *pem, size_t size, const char *name, struct mbl_key **out, struct mbl_error *e);

MBL_EXPORT void mbl_key_free(struct mbl_key *k); /* NULL is fine; a private key's bytes are wiped */

MBL_EXPORT const char *mbl_key_algorithm(const struct mbl_key *k); /* "ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "ed25519" */
MBL_EXPORT const char *mbl_key_pem(const struct mbl_key *k);       /* the public half: SubjectPublicKeyInfo in PEM */
MBL_EXPORT const char *mbl_key_fingerprint(const struct mbl_key *k); /* SHA-256 of that text, hex: the hint in a signature */

/* Deterministic: the same key and data give the same signature. */
MBL_EXPORT int mbl_key_sign(const struct mbl_key *k, const void *data, size_t size, struct mbl_buf *signature, struct mbl_error *e);
MBL_EXPORT bool mbl_key_verify(const struct mbl_key *k, const void *data, size_t size, const void *signature, size_t signature_size);

/* The statement about a file or folder, called `name`: its resources are the folder's files, or "." for a file alone. In a folder .git,
 * .gitattributes, .github and .gitignore are left out, as the specification wants. */
MBL_EXPORT int mbl_statement_make(const char *path, const char *name, struct mbl_arena *a, struct mbl_json **out, struct mbl_error *e);

/* The signature file's text. */
MBL_EXPORT int mbl_signature_make(const struct mbl_key *k, const struct mbl_json *statement, struct mbl_buf *out, struct mbl_error *e);

/* Reads a signature file, checks it with the key, and gives the statement that was signed. Fails if anything is not as it should be. */
MBL_EXPORT int mbl_signature_open(const char *path, const struct mbl_key *k, struct mbl_arena *a, struct mbl_json **statement,
                                  struct mbl_error *e);

/* Compares a signed statement with what stands at `path`; the error names the first file that differs, is missing, or is one too many. */
MBL_EXPORT int mbl_statement_compare(const struct mbl_json *statement, const char *path, struct mbl_error *e);

#endif
