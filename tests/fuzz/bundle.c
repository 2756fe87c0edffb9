/* Archives that may be anybody's, through what `mbuild verify` reads them with. */
#include "lib/bundle.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
    char path[64];
    struct mbl_bundle b;
    struct mbl_error e;
    int fd = memfd_create("bundle", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (mbl_bundle_check(path, &b, &e)) abort();
    if (!b.problem_count && !b.manifest) abort(); /* whole, but of what? */
    mbl_bundle_free(&b);
    close(fd);
    return 0;
}
