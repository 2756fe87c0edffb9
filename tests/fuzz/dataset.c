/* mbl_dataset_open on anything: what it takes can be read from the first row to the last. */
#include "lib/interactions.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char path[64];
    struct mbl_dataset d;
    struct mbl_error e;
    int fd = memfd_create("part", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (!mbl_dataset_open(path, &d, &e)) {
        volatile double last = 0;
        for (int64_t i = 0; i < d.rows; i++) {
            for (size_t k = 0; k < d.schema.features; k++) last = (double)d.features[(size_t)i * d.schema.features + k];
            if (d.labels && (size_t)d.labels[i] >= d.schema.class_count) abort();
            if (d.targets) last = (double)d.targets[i];
            for (size_t k = 0; k < d.text_count; k++)
                for (int64_t b = d.texts[k].offsets[i]; b < d.texts[k].offsets[i + 1]; b++) last = d.texts[k].bytes[b];
        }
        (void)last;
        struct mbl_interactions x = {0};
        if (d.schema.task == MBL_INTERACTIONS && !mbl_interactions_open(&d, &x, &e)) {
            struct mbl_catalogue *other;
            for (int64_t i = 0; i < x.rows; i++) /* who took all of few items has no negative */
                if (mbl_interactions_negative(&x, x.users[i], x.catalogue->side[MBL_ITEMS].trained, (uint64_t)i) < -1) abort();
            if (mbl_catalogue_read(d.schema.json, &d.file, &other, &e) || mbl_interactions_bind(&x, other, &e)) abort();
            for (int64_t i = 0; i < x.rows; i++)
                if (x.users[i] >= other->side[MBL_USERS].count || x.items[i] >= other->side[MBL_ITEMS].count) abort();
            mbl_catalogue_free(other);
            mbl_interactions_close(&x);
        }
        mbl_dataset_close(&d);
    }
    close(fd);
    return 0;
}
