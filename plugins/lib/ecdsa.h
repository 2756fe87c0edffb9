/* ecdsa.h: ECDSA signatures that depend on nothing but key and message: the nonce is RFC 6979's. OpenSSL offers that only from 3.2
 * on, and a signature that changes with each build would make releases of the same content differ.
 */
#ifndef MBL_ECDSA_H
#define MBL_ECDSA_H

#include "memory.h"
#include <openssl/evp.h>

/* The hash that goes with a curve's size (SHA-256 for P-256, SHA-384 for P-384, SHA-512 for P-521), or NULL for any other key. */
MBL_EXPORT const EVP_MD *mbl_ecdsa_hash(const EVP_PKEY *key);

/* Signs `data`, hashed with `hash`; the signature in DER (RFC 3279). */
MBL_EXPORT int mbl_ecdsa_sign(const EVP_PKEY *key, const EVP_MD *hash, const void *data, size_t size, struct mbl_buf *out,
                              struct mbl_error *e);

#endif
