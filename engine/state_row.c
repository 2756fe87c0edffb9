/* state_row.c: files and records as compact bytes, one row each; see state_private.h. It knows nothing of SQLite.
 *
 * Numbers are LEB128 (7 bits a byte, the lowest first), signed ones folded so that small ones stay short; a string is its length, its bytes
 * and a NUL, so that a reader hands out pointers into one copy of the row. A file of 100,000 targets is read in tenths of a second this
 * way. SQLite has no checksums: a flipped bit in a digest would go for a digest. So each row begins with a check, and one that fails is no
 * row.
 */
#include "state_private.h"

#include <string.h>

#define CHECK_SIZE 8

/* -- the check: not against malice, which could write what it likes, but against bad disks */

static uint64_t check_add(uint64_t h, const void *bytes, size_t n) {
    const unsigned char *p = bytes;
    h = (h ^ n) * 0x9e3779b97f4a7c15u;
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        h = (h ^ word) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    uint64_t rest = 0;
    if (n) memcpy(&rest, p, n);
    h = (h ^ rest) * 0xc4ceb9fe1a85ec53u;
    return h ^ h >> 29;
}

static uint64_t file_check(const char *path, const void *fields, size_t size) {
    return check_add(check_add(1, path, strlen(path)), fields, size);
}

static uint64_t record_check(const struct state_record *r, const void *fields, size_t size) {
    uint64_t h = check_add(2, r->step, strlen(r->step));
    return check_add(check_add(h, r->key.bytes, sizeof r->key.bytes), fields, size);
}

/* -- writing */

static void put_number(struct buf *out, uint64_t n) {
    unsigned char bytes[10];
    size_t length = 0;
    for (; n >= 0x80; n >>= 7) bytes[length++] = (unsigned char)(n | 0x80);
    bytes[length++] = (unsigned char)n;
    buf_add(out, bytes, length);
}

static void put_signed(struct buf *out, int64_t n) {
    put_number(out, n < 0 ? ~((uint64_t)n << 1) : (uint64_t)n << 1);
}

static void put_string(struct buf *out, const char *s) {
    if (!s) s = "";
    size_t n = strlen(s);
    put_number(out, n);
    buf_add(out, s, n + 1);
}

static void put_artifact(struct buf *out, const struct artifact *a) {
    buf_addc(out, (char)a->type);
    if (a->type == ARTIFACT_NONE) return;
    buf_add(out, a->digest.bytes, sizeof a->digest.bytes);
    put_number(out, a->size);
}

static void begin_row(struct buf *out) {
    buf_clear(out);
    buf_add(out, "\0\0\0\0\0\0\0\0", CHECK_SIZE);
}

void state_write_file(struct buf *out, const struct state_file *f) {
    begin_row(out);
    buf_addc(out, (char)f->stat.kind);
    buf_addc(out, (char)f->stat.executable);
    put_number(out, f->stat.size);
    put_number(out, f->stat.ino);
    put_number(out, f->stat.dev);
    put_signed(out, f->stat.mtime_ns);
    put_signed(out, f->stat.ctime_ns);
    put_artifact(out, &f->artifact);
    uint64_t check = file_check(f->path, out->data + CHECK_SIZE, out->len - CHECK_SIZE);
    memcpy(out->data, &check, CHECK_SIZE);
}

void state_write_record(struct buf *out, const struct state_record *r) {
    begin_row(out);
    buf_add(out, r->plugin.bytes, sizeof r->plugin.bytes);
    buf_add(out, &r->seconds, sizeof r->seconds);
    put_number(out, r->peak_bytes);
    put_signed(out, r->built_ms);
    put_signed(out, r->run_id);
    put_string(out, r->plugin_name);
    put_string(out, r->plugin_version);
    put_string(out, r->params);
    put_string(out, r->env);
    put_string(out, r->metrics);
    put_number(out, r->input_count);
    put_number(out, r->output_count);
    for (uint32_t i = 0; i < r->input_count; i++) {
        put_string(out, r->inputs[i].role);
        put_string(out, r->inputs[i].path);
        put_artifact(out, &r->inputs[i].artifact);
    }
    for (uint32_t i = 0; i < r->output_count; i++) {
        put_string(out, r->outputs[i].role);
        put_string(out, r->outputs[i].path);
        put_artifact(out, &r->outputs[i].artifact);
    }
    uint64_t check = record_check(r, out->data + CHECK_SIZE, out->len - CHECK_SIZE);
    memcpy(out->data, &check, CHECK_SIZE);
}

/* -- reading: `bad` once set stays, and what is read then is empty */

struct reader {
    const unsigned char *p, *end;
    bool bad;
};

static const unsigned char *get_bytes(struct reader *r, size_t n) {
    if (r->bad || (size_t)(r->end - r->p) < n) {
        r->bad = true;
        return NULL;
    }
    const unsigned char *at = r->p;
    r->p += n;
    return at;
}

static void get_fixed(struct reader *r, void *out, size_t n) {
    const unsigned char *at = get_bytes(r, n);
    if (at) memcpy(out, at, n);
}

static uint64_t get_number(struct reader *r) {
    uint64_t n = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        const unsigned char *at = get_bytes(r, 1);
        if (!at) return 0;
        if (shift == 63 && *at > 1) break;
        n |= (uint64_t)(*at & 0x7f) << shift;
        if (*at < 0x80) return n;
    }
    r->bad = true;
    return 0;
}

static int64_t get_signed(struct reader *r) {
    uint64_t n = get_number(r);
    return (int64_t)(n & 1 ? ~(n >> 1) : n >> 1);
}

static const char *get_string(struct reader *r) {
    uint64_t n = get_number(r);
    if (n >= SIZE_MAX) r->bad = true;
    const char *at = (const char *)get_bytes(r, r->bad ? 0 : (size_t)n + 1);
    if (at && memchr(at, 0, (size_t)n + 1) == at + n) return at;
    r->bad = true;
    return "";
}

static struct artifact get_artifact(struct reader *r) {
    struct artifact a = {0};
    unsigned char type = 0;
    get_fixed(r, &type, 1);
    switch (type) {
    case ARTIFACT_NONE: return a;
    case ARTIFACT_FILE: case ARTIFACT_EXECUTABLE: case ARTIFACT_LINK: case ARTIFACT_FOLDER: break;
    default: r->bad = true;
    }
    a.type = (enum artifact_type)type;
    get_fixed(r, a.digest.bytes, sizeof a.digest.bytes);
    a.size = get_number(r);
    return a;
}

/* How many of something follow, each of at least `least` bytes: no count makes us ask for more memory than the row is worth. */
static uint32_t get_count(struct reader *r, size_t least) {
    uint64_t n = get_number(r);
    if (n > (size_t)(r->end - r->p) / least) r->bad = true;
    return r->bad ? 0 : (uint32_t)n;
}

int state_read_file_fields(const void *fields, size_t size, struct state_file *out) {
    struct reader r = {.p = fields, .end = (const unsigned char *)fields + size};
    unsigned char kind = 0, executable = 0;
    memset(out, 0, sizeof *out);
    get_fixed(&r, &kind, 1);
    get_fixed(&r, &executable, 1);
    if (kind > FILE_OTHER || executable > 1) return -1;
    out->stat.kind = (enum file_kind)kind;
    out->stat.executable = executable;
    out->stat.size = get_number(&r);
    out->stat.ino = get_number(&r);
    out->stat.dev = get_number(&r);
    out->stat.mtime_ns = get_signed(&r);
    out->stat.ctime_ns = get_signed(&r);
    out->artifact = get_artifact(&r);
    return r.bad || r.p != r.end ? -1 : 0;
}

int state_read_file(const void *row, size_t size, const char *path, struct state_file *out) {
    uint64_t check;
    if (!row || size < CHECK_SIZE) return -1;
    memcpy(&check, row, CHECK_SIZE);
    const char *fields = (const char *)row + CHECK_SIZE;
    if (check != file_check(path, fields, size - CHECK_SIZE)) return -1;
    if (state_read_file_fields(fields, size - CHECK_SIZE, out)) return -1;
    out->path = path;
    return 0;
}

int state_read_record_fields(const void *fields, size_t size, struct arena *a, struct state_record *out) {
    const unsigned char *copy = (const unsigned char *)arena_strndup(a, fields, size);
    struct reader r = {.p = copy, .end = copy + size};
    get_fixed(&r, out->plugin.bytes, sizeof out->plugin.bytes);
    get_fixed(&r, &out->seconds, sizeof out->seconds);
    if (!(out->seconds >= 0 && out->seconds < 1e15)) out->seconds = 0;
    out->peak_bytes = get_number(&r);
    out->built_ms = get_signed(&r);
    out->run_id = get_signed(&r);
    out->plugin_name = get_string(&r);
    out->plugin_version = get_string(&r);
    out->params = get_string(&r);
    out->env = get_string(&r);
    out->metrics = get_string(&r);
    enum { LEAST = 5 }; /* two empty strings and the type of nothing */
    out->input_count = get_count(&r, LEAST);
    out->output_count = get_count(&r, LEAST);
    if (r.bad) return -1;
    out->inputs = arena_alloc(a, (size_t)out->input_count * sizeof *out->inputs);
    for (uint32_t i = 0; i < out->input_count && !r.bad; i++) {
        const char *role = get_string(&r), *path = get_string(&r);
        out->inputs[i] = (struct state_input){.role = role, .path = path, .artifact = get_artifact(&r)};
    }
    out->outputs = arena_alloc(a, (size_t)out->output_count * sizeof *out->outputs);
    for (uint32_t i = 0; i < out->output_count && !r.bad; i++) {
        const char *role = get_string(&r), *path = get_string(&r);
        out->outputs[i] = (struct state_output){.role = role, .path = path, .artifact = get_artifact(&r)};
    }
    return r.bad || r.p != r.end ? -1 : 0;
}

int state_read_record(const void *row, size_t size, struct arena *a, struct state_record *out) {
    uint64_t check;
    if (!row || size < CHECK_SIZE) return -1;
    memcpy(&check, row, CHECK_SIZE);
    const char *fields = (const char *)row + CHECK_SIZE;
    if (check != record_check(out, fields, size - CHECK_SIZE)) return -1;
    return state_read_record_fields(fields, size - CHECK_SIZE, a, out);
}
