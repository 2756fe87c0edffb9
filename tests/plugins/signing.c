/* Keys and signatures: published vectors, other curves, and what must not verify. */
#include "lib/ecdsa.h"
#include "lib/signing.h"
#include "test.h"

#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *in_folder(const char *name) {
    static struct mbl_arena paths;
    return mbl_path_join(&paths, test_folder(), name);
}

static void write_text(const char *path, const char *text) {
    FILE *f = fopen(path, "w");
    CHECK(f && fputs(text, f) >= 0 && !fclose(f));
}

/* -- RFC 6979, appendix A.2 */

static EVP_PKEY *private_key(const char *group, const char *x) {
    BIGNUM *d = NULL;
    CHECK(BN_hex2bn(&d, x));
    OSSL_PARAM_BLD *b = OSSL_PARAM_BLD_new();
    CHECK(b && OSSL_PARAM_BLD_push_utf8_string(b, OSSL_PKEY_PARAM_GROUP_NAME, group, 0) &&
          OSSL_PARAM_BLD_push_BN(b, OSSL_PKEY_PARAM_PRIV_KEY, d));
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(b);
    EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    EVP_PKEY *key = NULL;
    CHECK(params && c && EVP_PKEY_fromdata_init(c) == 1 && EVP_PKEY_fromdata(c, &key, EVP_PKEY_KEYPAIR, params) == 1);
    EVP_PKEY_CTX_free(c);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(b);
    BN_free(d);
    return key;
}

struct vector {
    const char *group, *x;
    const EVP_MD *(*hash)(void);
    const char *message, *r, *s;
};
static const struct vector vectors[] = {
    {"P-256", "C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721", EVP_sha256, "sample",
     "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716",
     "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8"},
    {"P-256", "C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721", EVP_sha256, "test",
     "F1ABB023518351CD71D881567B1EA663ED3EFCF6C5132B354F28D3B0B7D38367",
     "019F4113742A2B14BD25926B49C649155F267E60D3814B4C0CC84250E46F0083"},
    {"P-384", "6B9D3DAD2E1B8C1C05B19875B6659F4DE23C3B667BF297BA9AA47740787137D896D5724E4C70A825F872C9EA60D2EDF5", EVP_sha384, "sample",
     "94EDBB92A5ECB8AAD4736E56C691916B3F88140666CE9FA73D64C4EA95AD133C81A648152E44ACF96E36DD1E80FABE46",
     "99EF4AEB15F178CEA1FE40DB2603138F130E740A19624526203B6351D0A3A94FA329C145786E679E7B82C71A38628AC8"},
    {"P-521",
     "00FAD06DAA62BA3B25D2FB40133DA757205DE67F5BB0018FEE8C86E1B68C7E75CAA896EB32F1F47C70855836A6D16FCC1466F6D8FBEC67DB89EC0C08B0E996B83538",
     EVP_sha512, "sample",
     "00C328FAFCBD79DD77850370C46325D987CB525569FB63C5D3BC53950E6D4C5F174E25A1EE9017B5D450606ADD152B534931D7D4E8455CC91F9B15BF05EC36E377FA",
     "00617CCE7CF5064806C467F678D3B4080D6F1CC50AF26CA209417308281B68AF282623EAA63E5B5C0723D8B8C37FF0777B1A20F8CCB1DCCC43997F1EE0E44DA4A67"
     "A"}};

TEST("ECDSA signatures are those of RFC 6979's examples, on P-256, P-384 and P-521") {
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        const struct vector *v = &vectors[i];
        EVP_PKEY *key = private_key(v->group, v->x);
        struct mbl_buf sig = {0};
        struct mbl_error e;
        CHECK(mbl_ecdsa_hash(key) == v->hash());
        CHECK_EQ(mbl_ecdsa_sign(key, v->hash(), v->message, strlen(v->message), &sig, &e), 0);
        const unsigned char *der = (const unsigned char *)sig.data;
        ECDSA_SIG *parsed = d2i_ECDSA_SIG(NULL, &der, (long)sig.len);
        BIGNUM *r = NULL, *s = NULL;
        CHECK(parsed && BN_hex2bn(&r, v->r) && BN_hex2bn(&s, v->s));
        CHECKF(!BN_cmp(r, ECDSA_SIG_get0_r(parsed)) && !BN_cmp(s, ECDSA_SIG_get0_s(parsed)), "%s \"%s\" differs", v->group, v->message);
        BN_free(r);
        BN_free(s);
        ECDSA_SIG_free(parsed);
        EVP_PKEY_free(key);
        mbl_buf_free(&sig);
    }
}

/* -- keys */

TEST("a key is made once, for its owner alone, and signs the same each time") {
    static const char *const algorithms[] = {"ecdsa-p256", "ed25519"};
    for (int i = 0; i < 2; i++) {
        struct mbl_key *a, *b, *public;
        struct mbl_error e;
        struct mbl_buf one = {0}, two = {0};
        const char *path = in_folder(i ? "deep/er/ed.pem" : "deep/er/ec.pem");
        struct stat st;
        CHECKF(!mbl_key_make(path, algorithms[i], &a, &e), "%s", e.text);
        CHECKF(!mbl_key_make(path, algorithms[i], &b, &e), "%s", e.text);
        CHECK(!stat(path, &st));
        CHECK_EQ(st.st_mode & 0777, 0600);
        CHECK_STR(mbl_key_algorithm(a), algorithms[i]);
        CHECK_STR(mbl_key_fingerprint(a), mbl_key_fingerprint(b));
        CHECKF(!mbl_key_sign(a, "text", 4, &one, &e) && !mbl_key_sign(b, "text", 4, &two, &e), "%s", e.text);
        CHECK_EQ(one.len, two.len);
        CHECK_MEM(one.data, two.data, one.len);
        CHECKF(!mbl_key_parse_public(mbl_key_pem(a), strlen(mbl_key_pem(a)), "it", &public, &e), "%s", e.text);
        CHECK(mbl_key_verify(public, "text", 4, one.data, one.len));
        CHECK(!mbl_key_verify(public, "texT", 4, one.data, one.len));
        for (size_t bit = 0; bit < 8 * one.len; bit++) {
            one.data[bit / 8] ^= (char)(1 << bit % 8);
            CHECKF(!mbl_key_verify(public, "text", 4, one.data, one.len), "bit %zu flipped, and it verifies", bit);
            one.data[bit / 8] ^= (char)(1 << bit % 8);
        }
        mbl_key_free(a);
        mbl_key_free(b);
        mbl_key_free(public);
        mbl_buf_free(&one);
        mbl_buf_free(&two);
    }
}

TEST("what is no key, or one that can't be used, is told") {
    struct mbl_key *k;
    struct mbl_error e;
    const char *path = in_folder("k.pem");
    CHECK_EQ(mbl_key_read(path, &k, &e), -1);
    CHECK_CONTAINS(e.text, "No such file");
    write_text(path, "hello\n");
    CHECK_EQ(mbl_key_read(path, &k, &e), -1);
    CHECK_CONTAINS(e.text, "is no private key in PEM");
    CHECK_EQ(mbl_key_read_public(path, &k, &e), -1);
    CHECK_CONTAINS(e.text, "is no public key in PEM");
    EVP_PKEY *rsa = EVP_RSA_gen(1024);
    CHECK(rsa);
    FILE *f = fopen(path, "w");
    CHECK(f);
    PEM_write_PrivateKey(f, rsa, NULL, NULL, 0, NULL, NULL);
    fclose(f);
    CHECK_EQ(mbl_key_read(path, &k, &e), -1);
    CHECK_CONTAINS(e.text, "a key for RSA");
    EVP_PKEY *ec = EVP_EC_gen("P-256");
    f = fopen(path, "w");
    CHECK(f && ec);
    PEM_write_PrivateKey(f, ec, EVP_aes_128_cbc(), (const unsigned char *)"secret", 6, NULL, NULL);
    fclose(f);
    CHECK_EQ(mbl_key_read(path, &k, &e), -1);
    CHECK_CONTAINS(e.text, "passphrase");
    EVP_PKEY_free(rsa);
    EVP_PKEY_free(ec);
}

/* -- signature files */

struct world {
    struct mbl_key *key;
    struct mbl_arena arena;
    const char *model, *signature;
};

static void make_world(struct world *w) {
    struct mbl_error e;
    struct mbl_json *statement;
    struct mbl_buf text = {0};
    memset(w, 0, sizeof *w);
    w->model = in_folder("model");
    w->signature = in_folder("model.sig");
    CHECK(!mkdir(w->model, 0777) && !mkdir(in_folder("model/sub"), 0777));
    write_text(in_folder("model/a"), "one");
    write_text(in_folder("model/sub/b"), "two");
    write_text(in_folder("model/.gitignore"), "left out");
    CHECKF(!mbl_key_make(in_folder("k.pem"), "ecdsa-p256", &w->key, &e), "%s", e.text);
    CHECKF(!mbl_statement_make(w->model, "model", &w->arena, &statement, &e), "%s", e.text);
    CHECKF(!mbl_signature_make(w->key, statement, &text, &e), "%s", e.text);
    CHECKF(!mbl_file_write(w->signature, text.data, text.len, &e), "%s", e.text);
    mbl_buf_free(&text);
}

static int verify(struct world *w, struct mbl_error *e) {
    struct mbl_json *statement;
    return mbl_signature_open(w->signature, w->key, &w->arena, &statement, e) || mbl_statement_compare(statement, w->model, e) ? -1 : 0;
}

TEST("a signed folder verifies until a file of it is changed, gone, or one too many") {
    static struct world w;
    struct mbl_error e;
    make_world(&w);
    CHECKF(!verify(&w, &e), "%s", e.text);
    write_text(in_folder("model/.gitignore"), "other");
    CHECKF(!verify(&w, &e), "%s", e.text);
    write_text(in_folder("model/sub/b"), "twO");
    CHECK_EQ(verify(&w, &e), -1);
    CHECK_CONTAINS(e.text, "sub/b isn't what was signed");
    unlink(in_folder("model/sub/b"));
    CHECK_EQ(verify(&w, &e), -1);
    CHECK_CONTAINS(e.text, "sub/b was signed, but is missing");
    write_text(in_folder("model/sub/b"), "two");
    write_text(in_folder("model/c"), "");
    CHECK_EQ(verify(&w, &e), -1);
    CHECK_CONTAINS(e.text, "c was not signed");
    unlink(in_folder("model/c"));
    CHECK(!symlink("a", in_folder("model/c")));
    CHECK_EQ(verify(&w, &e), -1);
    CHECK_CONTAINS(e.text, "is a link");
}

TEST("a signature file with any byte changed is refused, or means the same") {
    static struct world w;
    struct mbl_error e;
    struct mbl_buf text = {0};
    make_world(&w);
    CHECK(!mbl_file_read(w.signature, 1 << 20, &text, &e));
    size_t accepted = 0;
    for (size_t i = 0; i < text.len; i++) {
        text.data[i] ^= 1;
        CHECK(!mbl_file_write(w.signature, text.data, text.len, &e));
        text.data[i] ^= 1;
        struct mbl_json *statement;
        if (mbl_signature_open(w.signature, w.key, &w.arena, &statement, &e)) continue;
        accepted++; /* blanks, and words that only tell others what it is */
        CHECKF(!mbl_statement_compare(statement, w.model, &e), "byte %zu: another statement is accepted: %s", i, e.text);
    }
    CHECKF(accepted < 200, "%zu of %zu changed bytes are accepted", accepted, text.len);
    mbl_buf_free(&text);
}

TEST("another key doesn't verify") {
    static struct world w;
    struct mbl_error e;
    make_world(&w);
    mbl_key_free(w.key);
    CHECK(!mbl_key_make(in_folder("other.pem"), "ecdsa-p256", &w.key, &e));
    CHECK_EQ(verify(&w, &e), -1);
    CHECK_CONTAINS(e.text, "made with another key");
}
