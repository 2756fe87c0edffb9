/* ecdsa.c: see ecdsa.h. Names are RFC 6979's and FIPS 186-5's: d the private key, n the group's order, k the nonce, z the message. */
#include "ecdsa.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/hmac.h>
#include <string.h>

#define ORDER_MOST 66 /* bytes of P-521's order */

const EVP_MD *mbl_ecdsa_hash(const EVP_PKEY *key) {
    char group[64];
    size_t n;
    if (!EVP_PKEY_is_a(key, "EC") || !EVP_PKEY_get_utf8_string_param(key, OSSL_PKEY_PARAM_GROUP_NAME, group, sizeof group, &n)) return NULL;
    if (!strcmp(group, "prime256v1") || !strcmp(group, "P-256")) return EVP_sha256();
    if (!strcmp(group, "secp384r1") || !strcmp(group, "P-384")) return EVP_sha384();
    if (!strcmp(group, "secp521r1") || !strcmp(group, "P-521")) return EVP_sha512();
    return NULL;
}

/* -- RFC 6979, section 3.2 */

struct drbg {
    const EVP_MD *hash;
    unsigned char k[EVP_MAX_MD_SIZE], v[EVP_MAX_MD_SIZE];
    size_t length; /* of k and v */
};

/* to = HMAC_K(V || mark || x || h); mark < 0: HMAC_K(V) */
static int mac(struct drbg *g, int mark, const unsigned char *x, const unsigned char *h, size_t bytes, unsigned char *to) {
    unsigned char text[EVP_MAX_MD_SIZE + 1 + 2 * ORDER_MOST];
    size_t n = g->length;
    memcpy(text, g->v, n);
    if (mark >= 0) text[n++] = (unsigned char)mark;
    if (x) {
        memcpy(text + n, x, bytes);
        memcpy(text + n + bytes, h, bytes);
        n += 2 * bytes;
    }
    int fine = HMAC(g->hash, g->k, (int)g->length, text, n, to, NULL) != NULL;
    OPENSSL_cleanse(text, sizeof text);
    return fine;
}

static int start(struct drbg *g, const EVP_MD *hash, const unsigned char *x, const unsigned char *h, size_t bytes) {
    g->hash = hash;
    g->length = (size_t)EVP_MD_get_size(hash);
    memset(g->v, 1, g->length);
    memset(g->k, 0, g->length);
    for (int mark = 0; mark < 2; mark++) /* steps d to g */
        if (!mac(g, mark, x, h, bytes, g->k) || !mac(g, -1, NULL, NULL, 0, g->v)) return 0;
    return 1;
}

/* bits2int: the leftmost bits of the order's length. */
static int bits_to_number(BIGNUM *to, const unsigned char *bits, size_t bytes, int order_bits) {
    if (!BN_bin2bn(bits, (int)bytes, to)) return 0;
    int extra = (int)(8 * bytes) - order_bits;
    return extra <= 0 || BN_rshift(to, to, extra);
}

/* Step h: the next candidate below n. */
static int next_nonce(struct drbg *g, const BIGNUM *n, BIGNUM *k, int first) {
    unsigned char t[EVP_MAX_MD_SIZE + ORDER_MOST];
    int bits = BN_num_bits(n);
    size_t bytes = (size_t)(bits + 7) / 8;
    for (;; first = 0) {
        if (!first && (!mac(g, 0, NULL, NULL, 0, g->k) || !mac(g, -1, NULL, NULL, 0, g->v))) return 0;
        for (size_t at = 0; at < bytes; at += g->length) {
            if (!mac(g, -1, NULL, NULL, 0, g->v)) return 0;
            memcpy(t + at, g->v, g->length);
        }
        int fine = bits_to_number(k, t, bytes, bits);
        OPENSSL_cleanse(t, sizeof t);
        if (!fine) return 0;
        if (!BN_is_zero(k) && BN_cmp(k, n) < 0) return 1;
    }
}

/* -- FIPS 186-5, section 6.4.1 */

struct numbers {
    BN_CTX *ctx;
    EC_GROUP *group;
    EC_POINT *point;
    BIGNUM *d;
    const BIGNUM *n;
    BIGNUM *z, *k, *r, *s, *inverse, *exponent;
};

static int open_numbers(struct numbers *m, const EVP_PKEY *key) {
    char group[64];
    size_t length;
    if (!EVP_PKEY_get_utf8_string_param(key, OSSL_PKEY_PARAM_GROUP_NAME, group, sizeof group, &length) ||
        !EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_PRIV_KEY, &m->d))
        return 0;
    m->ctx = BN_CTX_secure_new();
    m->group = EC_GROUP_new_by_curve_name(OBJ_txt2nid(group));
    if (!m->ctx || !m->group || !(m->point = EC_POINT_new(m->group))) return 0;
    m->n = EC_GROUP_get0_order(m->group);
    BN_CTX_start(m->ctx);
    BIGNUM **all[] = {&m->z, &m->k, &m->r, &m->s, &m->inverse, &m->exponent};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (!(*all[i] = BN_CTX_get(m->ctx))) return 0;
    BN_set_flags(m->d, BN_FLG_CONSTTIME);
    BN_set_flags(m->k, BN_FLG_CONSTTIME);
    return 1;
}

static void close_numbers(struct numbers *m) {
    if (m->ctx && m->z) {
        BN_clear(m->z);
        if (m->k) BN_clear(m->k);
        if (m->inverse) BN_clear(m->inverse);
    }
    if (m->ctx) BN_CTX_end(m->ctx);
    BN_CTX_free(m->ctx);
    EC_POINT_free(m->point);
    EC_GROUP_free(m->group);
    BN_clear_free(m->d);
}

/* r = x(k·G) mod n, s = k⁻¹ (z + r·d) mod n; k⁻¹ = kⁿ⁻² (Fermat), in constant time. 0: an error; r or s may be 0. */
static int sign_with(struct numbers *m) {
    return EC_POINT_mul(m->group, m->point, m->k, NULL, NULL, m->ctx) &&
           EC_POINT_get_affine_coordinates(m->group, m->point, m->r, NULL, m->ctx) && BN_nnmod(m->r, m->r, m->n, m->ctx) &&
           BN_copy(m->exponent, m->n) && BN_sub_word(m->exponent, 2) &&
           BN_mod_exp_mont_consttime(m->inverse, m->k, m->exponent, m->n, m->ctx, NULL) && BN_mod_mul(m->s, m->r, m->d, m->n, m->ctx) &&
           BN_mod_add(m->s, m->s, m->z, m->n, m->ctx) && BN_mod_mul(m->s, m->s, m->inverse, m->n, m->ctx);
}

static int to_der(const struct numbers *m, struct mbl_buf *out) {
    ECDSA_SIG *sig = ECDSA_SIG_new();
    BIGNUM *r = BN_dup(m->r), *s = BN_dup(m->s);
    if (!sig || !r || !s || !ECDSA_SIG_set0(sig, r, s)) {
        BN_free(r);
        BN_free(s);
        ECDSA_SIG_free(sig);
        return 0;
    }
    unsigned char *der = NULL;
    int n = i2d_ECDSA_SIG(sig, &der);
    if (n > 0) mbl_buf_add(out, der, (size_t)n);
    OPENSSL_free(der);
    ECDSA_SIG_free(sig);
    return n > 0;
}

static int sign(struct numbers *m, const EVP_MD *hash, const unsigned char *digest, size_t digest_size, struct mbl_buf *out) {
    unsigned char x[ORDER_MOST], h[ORDER_MOST];
    int bits = BN_num_bits(m->n), bytes = (bits + 7) / 8;
    struct drbg g;
    if (bytes > ORDER_MOST || !bits_to_number(m->z, digest, digest_size, bits) || !BN_nnmod(m->z, m->z, m->n, m->ctx) || /* bits2octets */
        BN_bn2binpad(m->d, x, bytes) != bytes || BN_bn2binpad(m->z, h, bytes) != bytes)
        return 0;
    int fine = start(&g, hash, x, h, (size_t)bytes);
    for (int first = 1; fine; first = 0) {
        fine = next_nonce(&g, m->n, m->k, first) && sign_with(m);
        if (fine && !BN_is_zero(m->r) && !BN_is_zero(m->s)) break;
    }
    OPENSSL_cleanse(x, sizeof x);
    OPENSSL_cleanse(&g, sizeof g);
    return fine && to_der(m, out);
}

int mbl_ecdsa_sign(const EVP_PKEY *key, const EVP_MD *hash, const void *data, size_t size, struct mbl_buf *out, struct mbl_error *e) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned digest_size;
    struct numbers m = {0};
    int fine =
        EVP_Digest(data, size, digest, &digest_size, hash, NULL) && open_numbers(&m, key) && sign(&m, hash, digest, digest_size, out);
    close_numbers(&m);
    return fine ? 0 : mbl_error_set(e, "OpenSSL cannot sign with this key");
}
