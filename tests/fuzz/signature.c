/* Signature files that may be anybody's: none of them verifies with a key that nobody has. */
#include "lib/signing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static const char public_key[] = "-----BEGIN PUBLIC KEY-----\n"
                                 "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE8D1eAVX028NH2SxpOroPcdEqrg4D\n"
                                 "C6m618hkSK3+vLuNdAoRA+H/Zw/SsaU5ls/n6yDTtL9VzU65M8pbcXWXFg==\n"
                                 "-----END PUBLIC KEY-----\n";

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
    char path[64];
    struct mbl_arena a = {0};
    struct mbl_key *key;
    struct mbl_json *statement;
    struct mbl_error e;
    int fd = memfd_create("signature", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (mbl_key_parse_public(public_key, strlen(public_key), "key", &key, &e)) abort();
    if (!mbl_signature_open(path, key, &a, &statement, &e) && mbl_statement_compare(statement, path, &e)) (void)e; /* a signed one: a seed of the corpus */
    mbl_key_free(key);
    mbl_arena_free(&a);
    close(fd);
    return 0;
}
