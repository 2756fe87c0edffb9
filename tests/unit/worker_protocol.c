/* Messages between engine and steps: what is written is read back, and what makes no sense is refused, whatever it is. */
#include "test.h"
#include "worker_log.h"
#include "worker_private.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static struct err e;

#define BUF(name) __attribute__((cleanup(buf_free))) struct buf name = {0} /* freed at the end of the block */

static struct message read_whole(const struct buf *b) {
    struct message m;
    size_t used;
    CHECKF(!message_read(b->data, b->len, MESSAGE_MOST, &m, &used, &e), "%s", e.text);
    CHECK_EQ(used, b->len);
    return m;
}

TEST("fields are read as they were written") {
    BUF(b);
    size_t begun = message_begin(&b, MESSAGE_LOG);
    message_add_number(&b, UINT64_MAX);
    message_add_string(&b, "ü");
    message_add_string(&b, NULL);
    message_add_string(&b, "");
    message_add_real(&b, -0.125);
    message_end(&b, begun);
    struct message m = read_whole(&b);
    CHECK_EQ(m.type, MESSAGE_LOG);
    CHECK(message_number(&m) == UINT64_MAX);
    CHECK_STR(message_string(&m), "ü");
    CHECK(!message_string_or_null(&m));
    CHECK_STR(message_string(&m), "");
    CHECK(message_real(&m) == -0.125);
    CHECKF(!message_end_reached(&m, &e), "%s", e.text);
}

TEST("a message that isn't whole yet is waited for, at every length") {
    BUF(b);
    struct message m;
    size_t used, begun = message_begin(&b, MESSAGE_WATCH);
    message_add_string(&b, "path");
    message_end(&b, begun);
    for (size_t n = 0; n < b.len; n++) {
        CHECK(!message_read(b.data, n, MESSAGE_MOST, &m, &used, &e));
        CHECK_EQ(used, 0);
    }
    CHECK(!message_read(b.data, b.len, MESSAGE_MOST, &m, &used, &e));
    CHECK_EQ(used, b.len);
}

TEST("a message that says it is larger than any may be is refused at once") {
    const uint32_t head[2] = {MESSAGE_MOST + 1, MESSAGE_LOG};
    struct message m;
    size_t used;
    CHECK(message_read(head, sizeof head, MESSAGE_MOST, &m, &used, &e));
    CHECK_CONTAINS(e.text, "at most");
}

TEST("a field beyond the end, a string without end and bytes too many are refused") {
    BUF(b);
    size_t begun = message_begin(&b, MESSAGE_WATCH);
    message_add_string(&b, "path");
    message_end(&b, begun);
    struct worker_event ev;
    BUF(scratch);
    bool result;
    int status;
    struct message m = read_whole(&b);
    m.end--;
    CHECK(worker_event_read(&m, &ev, &result, &status, &scratch, &e));
    CHECK_CONTAINS(e.text, "longer than itself");
    m = read_whole(&b);
    b.data[b.len - 1] = 'x'; /* the NUL */
    CHECK(worker_event_read(&m, &ev, &result, &status, &scratch, &e));
    b.data[b.len - 1] = 0;
    b.data[b.len - 3] = 0; /* one within */
    m = read_whole(&b);
    CHECK(worker_event_read(&m, &ev, &result, &status, &scratch, &e));
    CHECK_CONTAINS(e.text, "NUL");
    b.data[b.len - 3] = 't';
    message_add_number(&b, 1);
    message_end(&b, begun);
    m = read_whole(&b);
    CHECK(worker_event_read(&m, &ev, &result, &status, &scratch, &e));
    CHECK_CONTAINS(e.text, "too many");
    m = (struct message){.type = 77};
    CHECK(worker_event_read(&m, &ev, &result, &status, &scratch, &e));
    CHECK_CONTAINS(e.text, "unknown type 77");
}

TEST("no message of any bytes is read beyond its end") {
    unsigned seed = 1;
    for (int round = 0; round < 20000; round++) {
        unsigned char bytes[64];
        for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (unsigned char)((seed = seed * 1103515245u + 12345u) >> 16 & (i % 4 ? 3 : 31));
        struct message m = {.type = seed % 12, .at = bytes, .end = bytes + seed % sizeof bytes}, copy = m;
        struct worker_event ev;
        struct worker_request r;
        struct arena a = {0};
        BUF(scratch);
        bool result;
        int status;
        worker_event_read(&m, &ev, &result, &status, &scratch, &e);
        CHECK(m.at <= m.end);
        copy.type = MESSAGE_REQUEST;
        worker_request_read(&copy, &a, &r, &e);
        CHECK(copy.at <= copy.end);
        arena_free(&a);
    }
}

TEST("the name of an added file can't lead out of its folder") {
    static const char *const bad[] = {"", ".", "..", "a/b", "/etc/passwd", "../x"};
    for (size_t i = 0; i <= sizeof bad / sizeof *bad; i++) {
        bool good = i == sizeof bad / sizeof *bad;
        BUF(b);
        BUF(scratch);
        struct worker_event ev;
        bool result;
        int status;
        size_t begun = message_begin(&b, MESSAGE_ADDED);
        message_add_string(&b, "records");
        message_add_string(&b, good ? "r1.json" : bad[i]);
        message_end(&b, begun);
        struct message m = read_whole(&b);
        CHECK_EQ(!worker_event_read(&m, &ev, &result, &status, &scratch, &e), good);
        if (!good) CHECK_CONTAINS(e.text, "plain file name");
        }
}

TEST("text that isn't UTF-8 is made so, and infinite progress is none") {
    BUF(b);
    BUF(scratch);
    struct worker_event ev;
    bool result;
    int status;
    size_t begun = message_begin(&b, MESSAGE_PROGRESS);
    message_add_real(&b, NAN);
    message_add_real(&b, INFINITY);
    message_add_string(&b, "a\xff z\xc3\xbc \xed\xa0\x80");
    message_end(&b, begun);
    struct message m = read_whole(&b);
    CHECKF(!worker_event_read(&m, &ev, &result, &status, &scratch, &e), "%s", e.text);
    CHECK(ev.done == 0 && ev.total == 0);
    CHECK_STR(ev.text, "a\xef\xbf\xbd z\xc3\xbc \xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
}

TEST("a request is read as it was written") {
    const struct worker_path inputs[] = {{.role = "data", .path = "a b", .digest = "00"}, {.role = "data", .path = "c", .name = "d"}};
    const struct worker_path outputs[] = {{.role = "model", .path = ".mbuild/tmp/1/0/m", .name = "build/m"}};
    const char *const env[] = {"A", "1", "B", NULL, NULL};
    const char *const may_read[] = {"/home/key", NULL};
    const struct worker_request r = {.hook = WORKER_EXPLAIN, .step = "train", .label = "teacher", .params = "{}", .inputs = inputs, .input_count = 2, .outputs = outputs,
                                     .output_count = 1, .temp_folder = "t", .device = "cuda", .cpus = 3, .memory = 1ull << 40, .env = env, .dry_run = true,
                                     .sandbox = SANDBOX_OFF, .network = true, .may_read = may_read, .makeflags = "-j2", .jobserver = {3, 4}, .explain_role = "data",
                                     .before = "x", .after = "y"};
    BUF(b);
    BUF(again);
    struct arena a = {0};
    struct worker_request got;
    worker_request_write(&r, &b);
    struct message m = read_whole(&b);
    CHECKF(!worker_request_read(&m, &a, &got, &e), "%s", e.text);
    CHECK_STR(got.step, "train");
    CHECK_STR(got.inputs[1].name, "d");
    CHECK(!got.checkpoint_folder && !got.env[3] && !got.env[4]);
    CHECK_EQ(got.jobserver[1], 4);
    worker_request_write(&got, &again);
    CHECK_EQ(again.len, b.len);
    CHECK_MEM(again.data, b.data, b.len);
    arena_free(&a);
}

/* -- logs */

TEST("a log's tail is its last twenty lines") {
    struct worker_log l;
    BUF(tail);
    worker_log_init(&l, NULL);
    for (int i = 1; i <= 50; i++) {
        char line[16];
        int n = snprintf(line, sizeof line, "line %d\n", i);
        CHECK(!worker_log_add(&l, line, (size_t)n, &e));
    }
    worker_log_tail(&l, &tail);
    CHECK(!strncmp(tail.data, "line 31\n", 8));
    CHECK_CONTAINS(tail.data, "\nline 50");
    CHECK(tail.data[tail.len - 1] == '0');
}

TEST("a tail of one endless line, of bytes that are no text, or of nothing is told") {
    struct worker_log l;
    BUF(tail);
    char bytes[10000];
    worker_log_init(&l, NULL);
    worker_log_tail(&l, &tail);
    CHECK_EQ(tail.len, 0);
    memset(bytes, 'x', sizeof bytes);
    CHECK(!worker_log_add(&l, bytes, sizeof bytes, &e));
    worker_log_tail(&l, &tail);
    CHECK_EQ(tail.len, WORKER_TAIL_BYTES);
    buf_clear(&tail);
    memset(bytes, 0xff, sizeof bytes);
    CHECK(!worker_log_add(&l, bytes, sizeof bytes, &e));
    worker_log_tail(&l, &tail);
    CHECK(tail.len && tail.len <= WORKER_TAIL_BYTES && text_is_valid(tail.data));
}

TEST("a log is made with its first byte and cut at its limit with a note") {
    struct worker_log l;
    struct stat st;
    char path[600], *chunk = malloc(1 << 20);
    snprintf(path, sizeof path, "%s/deep/log", test_folder());
    worker_log_init(&l, path);
    CHECK(!l.made && stat(path, &st));
    memset(chunk, 'x', 1 << 20);
    for (int i = 0; i < 70; i++) CHECKF(!worker_log_add(&l, chunk, 1 << 20, &e), "%s", e.text);
    CHECK(l.made && !stat(path, &st));
    CHECKF(st.st_size > WORKER_LOG_MOST && st.st_size < WORKER_LOG_MOST + 200, "it has %lld bytes", (long long)st.st_size);
    worker_log_close(&l);
    free(chunk);
}

TEST("a log that can't be written is told once and its end kept all the same") {
    struct worker_log l;
    BUF(tail);
    worker_log_init(&l, "/dev/null/log");
    CHECK(worker_log_add(&l, "a\n", 2, &e));
    CHECK(!worker_log_add(&l, "b\n", 2, &e));
    worker_log_tail(&l, &tail);
    CHECK_STR(tail.data, "a\nb");
    CHECK(!l.made);
    worker_log_close(&l);
}

/* -- what became of a step */

static enum worker_outcome judged(struct worker_end end, const char *part) {
    BUF(message);
    enum worker_outcome outcome = worker_judge(&end, &message);
    CHECK_CONTAINS(buf_str(&message), part);
    return outcome;
}

TEST("a crash is told by its signal and what it means") {
    CHECK_EQ(judged((struct worker_end){.started = true, .wait_status = SIGSEGV}, "crashed: SIGSEGV (it read or wrote memory"), WORKER_CRASHED);
    CHECK_EQ(judged((struct worker_end){.started = true, .wait_status = SIGABRT}, "SIGABRT"), WORKER_CRASHED);
}

TEST("a kill that nobody here did is taken for lack of memory, with the peak and the limit") {
    struct worker_end end = {.started = true, .wait_status = SIGKILL, .memory = 4ull << 30, .peak_bytes = 4187593114ull};
    CHECK_EQ(judged(end, "was killed by SIGKILL: probably out of memory (peak 3.9 GiB; its limit is 4.0 GiB)"), WORKER_NO_MEMORY);
    end.wait_status = SIGSEGV; /* on the NULL of a malloc that nobody checked */
    CHECK_EQ(judged(end, "probably out of memory"), WORKER_NO_MEMORY);
}

TEST("a timeout goes before whatever the step still said") {
    struct worker_end end = {.started = true, .timed_out = true, .timeout_ms = 2000, .said = true, .said_status = MB_OK};
    CHECK_EQ(judged(end, "ran past its timeout of 2 s and was ended"), WORKER_TIMED_OUT);
    end.timeout_ms = 250;
    CHECK_EQ(judged(end, "250 ms"), WORKER_TIMED_OUT);
}

TEST("a step that ends its process instead of returning is told so, also with status 0") {
    CHECK_EQ(judged((struct worker_end){.started = true}, "exited with status 0 before its function returned"), WORKER_FAILED);
    CHECK_EQ(judged((struct worker_end){.started = true, .said = true, .said_status = MB_OK}, ""), WORKER_OK);
    CHECK_EQ(judged((struct worker_end){.started = true, .said = true, .said_status = MB_FAILED, .said_text = "no rows"}, "no rows"), WORKER_FAILED);
    CHECK_EQ(judged((struct worker_end){.started = true, .said = true, .said_status = MB_CANCELLED, .cancelled = true}, "was cancelled"), WORKER_CANCELLED);
    CHECK_EQ(judged((struct worker_end){.started = true, .protocol = "a message of type 9"}, "memory is probably damaged"), WORKER_CRASHED);
}
