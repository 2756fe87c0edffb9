/* What a process that went mad may send: every message is read or refused, and what is read stays within its bounds. */
#include "worker_protocol.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static void read_event(const struct message *whole) {
    struct message m = *whole;
    struct worker_event ev;
    struct buf scratch = {0};
    struct err e;
    bool result;
    int status;
    if (!worker_event_read(&m, &ev, &result, &status, &scratch, &e)) {
        bool text_wanted = ev.type != WORKER_PROGRESS && ev.type != WORKER_LINEAGE && !result;
        if (text_wanted && !ev.text) abort();
        if (ev.type == WORKER_ADDED && (strchr(ev.text, '/') || !*ev.text)) abort();
        bool for_people = ev.type == WORKER_LOG || ev.type == WORKER_METRIC || ev.type == WORKER_PROGRESS || result;
        if (ev.text && for_people && !text_is_valid(ev.text)) abort();
    }
    buf_free(&scratch);
}

/* A request that was read must come out the same when it is written and read again. */
static void read_request(const struct message *whole) {
    struct message m = *whole, again;
    struct arena a = {0};
    struct worker_request r;
    struct buf first = {0}, second = {0};
    struct err e;
    size_t used;
    if (!worker_request_read(&m, &a, &r, &e)) {
        worker_request_write(&r, &first);
        if (message_read(first.data, first.len, UINT32_MAX, &again, &used, &e) || used != first.len) abort();
        if (worker_request_read(&again, &a, &r, &e)) abort();
        worker_request_write(&r, &second);
        if (first.len != second.len || memcmp(first.data, second.data, first.len)) abort();
    }
    arena_free(&a);
    buf_free(&first);
    buf_free(&second);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
    struct message m;
    struct err e;
    size_t used;
    for (size_t at = 0; at <= size; at += used) {
        if (message_read(data + at, size - at, MESSAGE_MOST, &m, &used, &e) || !used) break;
        if (used > size - at) abort();
        read_event(&m);
        read_request(&m);
    }
    return 0;
}
