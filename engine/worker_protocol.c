/* worker_protocol.c: messages as bytes; see worker_protocol.h. */
#include "worker_protocol.h"
#include <mbuild/plugin.h>

#include <string.h>

#define NO_STRING UINT32_MAX

/* -- writing */

size_t message_begin(struct buf *b, enum message_type type) {
    uint32_t head[2] = {0, (uint32_t)type};
    size_t begun = b->len;
    buf_add(b, head, sizeof head);
    return begun;
}

void message_add_number(struct buf *b, uint64_t n) {
    buf_add(b, &n, sizeof n);
}

void message_add_real(struct buf *b, double d) {
    buf_add(b, &d, sizeof d);
}

void message_add_string(struct buf *b, const char *s) {
    size_t n = s ? strlen(s) : NO_STRING;
    uint32_t length = n < NO_STRING ? (uint32_t)n : NO_STRING;
    buf_add(b, &length, sizeof length);
    if (s) buf_add(b, s, (size_t)length + 1);
}

void message_end(struct buf *b, size_t begun) {
    uint32_t length = (uint32_t)(b->len - begun - MESSAGE_HEAD);
    memcpy(b->data + begun, &length, sizeof length);
}

/* -- reading */

int message_read(const void *bytes, size_t n, uint32_t most, struct message *m, size_t *used, struct err *e) {
    uint32_t head[2];
    *used = 0;
    if (n < MESSAGE_HEAD) return 0;
    memcpy(head, bytes, sizeof head);
    if (head[0] > most) return err_set(e, "a message of type %u has %u bytes; at most %u expected", head[1], head[0], most);
    if (n - MESSAGE_HEAD < head[0]) return 0;
    m->type = head[1];
    m->at = (const unsigned char *)bytes + MESSAGE_HEAD;
    m->end = m->at + head[0];
    m->wrong = NULL;
    *used = MESSAGE_HEAD + (size_t)head[0];
    return 0;
}

static bool take(struct message *m, void *out, size_t n) {
    memset(out, 0, n);
    if (m->wrong) return false;
    if ((size_t)(m->end - m->at) < n) {
        m->wrong = "ends in the midst of a field";
        return false;
    }
    memcpy(out, m->at, n);
    m->at += n;
    return true;
}

uint64_t message_number(struct message *m) {
    uint64_t n;
    take(m, &n, sizeof n);
    return n;
}

double message_real(struct message *m) {
    double d;
    take(m, &d, sizeof d);
    return d;
}

const char *message_string_or_null(struct message *m) {
    uint32_t length;
    if (!take(m, &length, sizeof length) || length == NO_STRING) return NULL;
    const char *s = (const char *)m->at;
    if ((size_t)(m->end - m->at) <= length) m->wrong = "has a string that is longer than itself";
    else if (s[length] || memchr(s, 0, length)) m->wrong = "has a string with a NUL in it, or none at its end";
    if (m->wrong) return NULL;
    m->at += (size_t)length + 1;
    return s;
}

const char *message_string(struct message *m) {
    const char *s = message_string_or_null(m);
    if (!s && !m->wrong) m->wrong = "lacks a string";
    return s ? s : "";
}

int message_end_reached(const struct message *m, struct err *e) {
    if (m->wrong) return err_set(e, "a message of type %u %s", m->type, m->wrong);
    return m->at == m->end ? 0 : err_set(e, "a message of type %u has %zu bytes too many", m->type, (size_t)(m->end - m->at));
}

/* -- text */

/* Length of the valid UTF-8 sequence in the `n` bytes at s (RFC 3629), or 0. */
static size_t utf8_length(const char *text, size_t n) {
    const unsigned char *s = (const unsigned char *)text;
    size_t length = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;
    if (!length || length > n) return 0;
    for (size_t i = 1; i < length; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    bool overlong = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90);
    bool beyond = (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf4 && s[1] > 0x8f);
    return overlong || beyond ? 0 : length;
}

void text_add_valid(struct buf *out, const char *bytes, size_t n) {
    size_t plain = 0; /* start of the bytes that can go as they are */
    for (size_t i = 0; i < n;) {
        size_t length = bytes[i] ? utf8_length(bytes + i, n - i) : 0;
        if (length) {
            i += length;
            continue;
        }
        buf_add(out, bytes + plain, i - plain);
        buf_adds(out, "\xef\xbf\xbd");
        plain = ++i;
    }
    buf_add(out, bytes + plain, n - plain);
}

bool text_is_valid(const char *s) {
    size_t n = strlen(s);
    for (size_t i = 0; i < n;) {
        size_t length = utf8_length(s + i, n - i);
        if (!length) return false;
        i += length;
    }
    return true;
}

/* -- what a step says */

static const char *made_valid(const char *s, struct buf *scratch) {
    if (!s || text_is_valid(s)) return s;
    buf_clear(scratch);
    text_add_valid(scratch, s, strlen(s));
    return buf_str(scratch);
}

static double finite_or_zero(double d) {
    return d - d == 0 ? d : 0;
}

/* The name of a file in a folder of ours: nothing that leads out of it. */
static int check_added(const char *name, struct err *e) {
    if (*name && !strchr(name, '/') && strcmp(name, ".") && strcmp(name, "..") && strlen(name) < 256) return 0;
    return err_set(e, "the name of an added file is \"%.300s\": a plain file name expected", name);
}

int worker_event_read(struct message *m, struct worker_event *ev, bool *result, int *status, struct buf *scratch, struct err *e) {
    memset(ev, 0, sizeof *ev);
    *result = false;
    *status = 0;
    switch (m->type) {
    case MESSAGE_LOG:
        ev->type = WORKER_LOG;
        uint64_t level = message_number(m);
        ev->level = level <= MB_ERROR ? (int)level : MB_ERROR;
        ev->text = made_valid(message_string(m), scratch);
        break;
    case MESSAGE_PROGRESS:
        ev->type = WORKER_PROGRESS;
        ev->done = finite_or_zero(message_real(m));
        ev->total = finite_or_zero(message_real(m));
        ev->text = made_valid(message_string_or_null(m), scratch);
        break;
    case MESSAGE_METRIC:
        ev->type = WORKER_METRIC;
        ev->text = made_valid(message_string(m), scratch);
        ev->done = message_real(m);
        break;
    case MESSAGE_DISCOVERED:
        ev->type = WORKER_DISCOVERED;
        ev->text = message_string(m);
        break;
    case MESSAGE_FINGERPRINT:
        ev->type = WORKER_FINGERPRINT_TEXT;
        ev->text = made_valid(message_string(m), scratch);
        break;
    case MESSAGE_WATCH:
        ev->type = WORKER_WATCH;
        ev->text = message_string(m);
        break;
    case MESSAGE_ADDED:
        ev->type = WORKER_ADDED;
        ev->role = message_string(m);
        ev->text = message_string(m);
        if (!m->wrong && check_added(ev->text, e)) return -1;
        break;
    case MESSAGE_LINEAGE:
        ev->type = WORKER_LINEAGE;
        ev->role = message_string(m);
        uint64_t index = message_number(m);
        ev->index = index < UINT32_MAX ? (uint32_t)index : UINT32_MAX;
        break;
    case MESSAGE_RESULT:
        *result = true;
        uint64_t code = message_number(m);
        *status = code <= INT32_MAX ? (int)code : -1;
        ev->text = made_valid(message_string_or_null(m), scratch);
        break;
    default: return err_set(e, "a message has the unknown type %u", m->type);
    }
    return message_end_reached(m, e);
}

/* -- what a step is asked */

static void add_paths(struct buf *out, const struct worker_path *paths, uint32_t count) {
    message_add_number(out, count);
    for (uint32_t i = 0; i < count; i++) {
        message_add_string(out, paths[i].role);
        message_add_string(out, paths[i].path);
        message_add_string(out, paths[i].name);
        message_add_string(out, paths[i].digest);
    }
}

void worker_request_write(const struct worker_request *r, struct buf *out) {
    size_t begun = message_begin(out, MESSAGE_REQUEST);
    message_add_number(out, (uint64_t)r->hook);
    message_add_string(out, r->step);
    message_add_string(out, r->label);
    message_add_string(out, r->params);
    add_paths(out, r->inputs, r->input_count);
    add_paths(out, r->outputs, r->output_count);
    message_add_string(out, r->temp_folder);
    message_add_string(out, r->checkpoint_folder);
    message_add_string(out, r->device);
    message_add_number(out, (uint64_t)r->cpus);
    message_add_number(out, r->memory);
    uint64_t pairs = 0;
    while (r->env && r->env[2 * pairs]) pairs++;
    message_add_number(out, pairs);
    for (uint64_t i = 0; i < 2 * pairs; i++) message_add_string(out, r->env[i]);
    message_add_number(out, r->dry_run);
    message_add_number(out, (uint64_t)r->sandbox);
    message_add_number(out, r->network);
    message_add_number(out, r->self_contained);
    uint64_t readable = 0;
    while (r->may_read && r->may_read[readable]) readable++;
    message_add_number(out, readable);
    for (uint64_t i = 0; i < readable; i++) message_add_string(out, r->may_read[i]);
    message_add_string(out, r->makeflags);
    for (int i = 0; i < 2; i++) message_add_number(out, (uint64_t)r->jobserver[i]);
    message_add_string(out, r->explain_role);
    message_add_string(out, r->before);
    message_add_string(out, r->after);
    message_end(out, begun);
}

static const char *copy_string(struct message *m, struct arena *a) {
    const char *s = message_string_or_null(m);
    return s ? arena_strdup(a, s) : NULL;
}

/* A number of things that take `least` bytes each and must still be in the message. */
static uint64_t read_count(struct message *m, size_t least) {
    uint64_t n = message_number(m);
    if (n > (size_t)(m->end - m->at) / least) {
        if (!m->wrong) m->wrong = "counts more than it has";
        return 0;
    }
    return n;
}

static const struct worker_path *read_paths(struct message *m, struct arena *a, uint32_t *count) {
    *count = (uint32_t)read_count(m, 4 * sizeof(uint32_t));
    struct worker_path *paths = arena_alloc(a, (*count + 1) * sizeof *paths);
    for (uint32_t i = 0; i < *count; i++) {
        paths[i].role = arena_strdup(a, message_string(m));
        paths[i].path = arena_strdup(a, message_string(m));
        paths[i].name = copy_string(m, a);
        paths[i].digest = copy_string(m, a);
    }
    return paths;
}

int worker_request_read(struct message *m, struct arena *a, struct worker_request *r, struct err *e) {
    memset(r, 0, sizeof *r);
    if (m->type != MESSAGE_REQUEST) return err_set(e, "a request expected, found a message of type %u", m->type);
    uint64_t hook = message_number(m);
    r->hook = hook <= WORKER_EXPLAIN ? (enum worker_hook)hook : WORKER_RUN;
    r->step = arena_strdup(a, message_string(m));
    r->label = copy_string(m, a);
    r->params = copy_string(m, a);
    r->inputs = read_paths(m, a, &r->input_count);
    r->outputs = read_paths(m, a, &r->output_count);
    r->temp_folder = copy_string(m, a);
    r->checkpoint_folder = copy_string(m, a);
    r->device = copy_string(m, a);
    r->cpus = (int)message_number(m);
    r->memory = message_number(m);
    uint64_t pairs = read_count(m, 2 * sizeof(uint32_t));
    const char **env = arena_alloc(a, (2 * pairs + 1) * sizeof *env);
    for (uint64_t i = 0; i < pairs; i++) {
        env[2 * i] = arena_strdup(a, message_string(m));
        env[2 * i + 1] = copy_string(m, a);
    }
    r->env = env;
    r->dry_run = message_number(m);
    uint64_t mode = message_number(m);
    r->sandbox = mode <= SANDBOX_OFF ? (enum sandbox_mode)mode : SANDBOX_REQUIRE;
    r->network = message_number(m);
    r->self_contained = message_number(m);
    uint64_t readable = read_count(m, sizeof(uint32_t));
    const char **may_read = arena_alloc(a, (readable + 1) * sizeof *may_read);
    for (uint64_t i = 0; i < readable; i++) may_read[i] = arena_strdup(a, message_string(m));
    r->may_read = may_read;
    r->makeflags = copy_string(m, a);
    for (int i = 0; i < 2; i++) r->jobserver[i] = (int)message_number(m);
    r->explain_role = copy_string(m, a);
    r->before = copy_string(m, a);
    r->after = copy_string(m, a);
    return message_end_reached(m, e);
}
