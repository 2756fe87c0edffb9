/* snapshot.c: mapping a snapshot, and comparing what it tells with what stands; see snapshot.h. */
#include "snapshot_private.h"
#include "config.h"
#include "sys_call.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* -- the question */

char *snapshot_path(const struct session *s, struct digest *question) {
    const struct options *o = s->options;
    struct digest_context *c = digest_begin();
    digest_add_string(c, "mbuild snapshot " MBUILD_VERSION);
    digest_add_string(c, o->file ? o->file : "mbuild.lua");
    digest_add_string(c, s->device);
    digest_add_string(c, s->root);
    digest_add_u64(c, (uint64_t)s->gpus);
    digest_add_u64(c, o->target_count);
    for (uint32_t i = 0; i < o->target_count; i++) digest_add_string(c, o->targets[i]);
    for (uint32_t i = 0; i < o->setting_count; i++) digest_add_string(c, o->settings[i]);
    *question = digest_end(c);
    char hex[DIGEST_HEX + 1];
    digest_to_hex(question, hex);
    return mem_printf(".mbuild/snapshot/%.16s", hex);
}

/* -- checksum: not against malice, for whoever can write here can write the database as well, but against a disk that lies */

static uint64_t mix(uint64_t h, uint64_t word) {
    h = (h ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    return h << 29 | h >> 35;
}

uint64_t snapshot_sum(const void *bytes, size_t n, uint64_t seed) {
    const unsigned char *p = bytes;
    uint64_t lanes[4] = {seed, seed + 1, seed + 2, seed + 3}, words[4];
    for (; n >= sizeof words; n -= sizeof words, p += sizeof words) {
        memcpy(words, p, sizeof words);
        for (int i = 0; i < 4; i++) lanes[i] = mix(lanes[i], words[i]);
    }
    memset(words, 0, sizeof words);
    if (n) memcpy(words, p, n);
    for (int i = 0; i < 4; i++) lanes[i] = mix(lanes[i], words[i]);
    return mix(mix(mix(mix(n, lanes[0]), lanes[1]), lanes[2]), lanes[3]);
}

uint64_t snapshot_hot_sum(const unsigned char *map, const struct snap_head *head) {
    struct snap_head plain = *head;
    plain.hot_sum = 0;
    uint64_t seed = snapshot_sum(&plain, sizeof plain, 1);
    return snapshot_sum(map + sizeof plain, head->sections[SNAP_FACTS].offset - sizeof plain, seed);
}

/* -- mapping */

const void *snapshot_section(const struct snapshot *snap, enum snap_section which, size_t size, uint32_t *count) {
    *count = (uint32_t)(snap->head->sections[which].bytes / size);
    return snap->map + snap->head->sections[which].offset;
}

/* Sections in order, aligned, none beyond the end; texts end with NUL, so that no string runs out of them. */
static bool sections_good(const struct snapshot *snap) {
    static const size_t sizes[SNAP_SECTIONS] = {
        [SNAP_STATS] = sizeof(struct snap_stat), [SNAP_PATHS] = 1, [SNAP_DEVICES] = sizeof(uint64_t), [SNAP_ENV] = sizeof(struct snap_env),
        [SNAP_FACTS] = sizeof(struct snap_fact), [SNAP_EDGES] = sizeof(struct snap_edge), [SNAP_STEPS] = sizeof(struct snap_step),
        [SNAP_SLOTS] = sizeof(struct snap_slot), [SNAP_WORDS] = sizeof(uint32_t), [SNAP_TEXT] = 1};
    const struct snap_head *h = snap->head;
    uint64_t at = sizeof *h;
    for (int i = 0; i < SNAP_SECTIONS; i++) {
        uint64_t offset = h->sections[i].offset, bytes = h->sections[i].bytes;
        if (offset < at || offset % 8 || offset > snap->size || bytes > snap->size - offset || bytes % sizes[i] || bytes / sizes[i] > UINT32_MAX / 2) return false;
        at = offset + bytes;
        bool text = i == SNAP_PATHS || i == SNAP_TEXT;
        if (text && (!bytes || bytes > UINT32_MAX || snap->map[offset + bytes - 1])) return false;
    }
    return true;
}

static bool hot_good(struct snapshot *snap, const struct digest *question) {
    const struct snap_head *h = snap->head;
    if (memcmp(h->magic, SNAPSHOT_MAGIC, sizeof h->magic) || h->version != SNAPSHOT_VERSION) return false;
    if (memcmp(h->question, question->bytes, sizeof h->question) || !sections_good(snap)) return false;
    if (snapshot_hot_sum(snap->map, h) != h->hot_sum) return false;
    uint32_t devices, envs, facts;
    snap->stats = snapshot_section(snap, SNAP_STATS, sizeof *snap->stats, &snap->entry_count);
    snapshot_section(snap, SNAP_DEVICES, sizeof(uint64_t), &devices);
    snapshot_section(snap, SNAP_FACTS, sizeof(struct snap_fact), &facts);
    snapshot_section(snap, SNAP_STEPS, sizeof(struct snap_step), &snap->step_count);
    const struct snap_env *env = snapshot_section(snap, SNAP_ENV, sizeof *env, &envs);
    if (facts != snap->entry_count) return false;
    for (uint32_t i = 0; i < snap->entry_count; i++)
        if (snap->stats[i].path >= h->sections[SNAP_PATHS].bytes || snap->stats[i].device >= devices) return false;
    for (uint32_t i = 0; i < envs; i++)
        if (env[i].name >= h->sections[SNAP_PATHS].bytes || (env[i].value != NO_ID && env[i].value >= h->sections[SNAP_PATHS].bytes)) return false;
    return h->nothing < h->sections[SNAP_PATHS].bytes;
}

struct snapshot *snapshot_open(const struct session *s) {
    struct digest question;
    char *path = snapshot_path(s, &question);
    struct stat st;
    int fd = sys_call_open(AT_FDCWD, path, O_RDONLY, 0);
    struct snapshot *snap = NULL;
    if (fd >= 0 && !fstat(fd, &st) && st.st_size >= (off_t)sizeof(struct snap_head)) {
        void *map = sys_fault(SYS_MMAP) ? MAP_FAILED : mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
        if (map != MAP_FAILED) {
            snap = mem_alloc(sizeof *snap);
            *snap = (struct snapshot){.path = path, .map = map, .size = (size_t)st.st_size, .head = map};
            path = NULL;
        }
    }
    if (fd >= 0) close(fd);
    free(path);
    if (snap && !hot_good(snap, &question)) {
        snapshot_close(snap);
        snap = NULL;
    }
    return snap;
}

void snapshot_close(struct snapshot *snap) {
    if (!snap) return;
    munmap((void *)(uintptr_t)snap->map, snap->size);
    free(snap->path);
    free(snap->dirty);
    free(snap->file_of);
    free(snap->step_of);
    free(snap->reached);
    free(snap);
}

uint32_t snapshot_step_count(const struct snapshot *snap) {
    return snap->step_count;
}

const char *snapshot_nothing(const struct snapshot *snap) {
    return (const char *)snap->map + snap->head->sections[SNAP_PATHS].offset + snap->head->nothing;
}

void snapshot_drop(const struct session *s) {
    struct digest question;
    struct err ignored;
    char *path = snapshot_path(s, &question);
    sys_unlink(path, &ignored);
    free(path);
}

/* -- the cold part */

static bool text_good(const struct snapshot *snap, uint32_t offset) {
    return offset < snap->head->sections[SNAP_TEXT].bytes;
}

static bool range_good(uint32_t start, uint32_t count, uint32_t all) {
    return start <= all && count <= all - start;
}

static bool step_good(const struct snapshot *snap, const struct snap_step *s, uint32_t slots, uint32_t words) {
    return text_good(snap, s->name) && text_good(snap, s->where) && text_good(snap, s->plugin) && text_good(snap, s->params)
        && (s->pool == NO_ID || text_good(snap, s->pool)) && (s->plugin_entry == NO_ID || s->plugin_entry < snap->entry_count)
        && range_good(s->inputs, s->input_count, slots) && range_good(s->outputs, s->output_count, slots)
        && range_good(s->env, s->env_count, words);
}

static bool check_cold(const struct snapshot *snap) {
    const struct snap_head *h = snap->head;
    uint64_t start = h->sections[SNAP_FACTS].offset;
    if (snapshot_sum(snap->map + start, snap->size - start, 2) != h->cold_sum) return false;
    uint32_t n, slots, words, edges;
    const struct snap_fact *facts = snapshot_section(snap, SNAP_FACTS, sizeof *facts, &n);
    const struct snap_edge *edge = snapshot_section(snap, SNAP_EDGES, sizeof *edge, &edges);
    const struct snap_step *steps = snapshot_section(snap, SNAP_STEPS, sizeof *steps, &n);
    const struct snap_slot *slot = snapshot_section(snap, SNAP_SLOTS, sizeof *slot, &slots);
    const uint32_t *word = snapshot_section(snap, SNAP_WORDS, sizeof *word, &words);
    bool good = h->outside_count <= words;
    for (uint32_t i = 0; i < snap->entry_count && good; i++)
        good = (facts[i].producer == NO_ID || facts[i].producer < snap->step_count) && (facts[i].parent == NO_ID || facts[i].parent < snap->entry_count);
    for (uint32_t i = 0; i < edges && good; i++) good = edge[i].entry < snap->entry_count && edge[i].step < snap->step_count;
    for (uint32_t i = 0; i < snap->step_count && good; i++) good = step_good(snap, &steps[i], slots, words);
    for (uint32_t i = 0; i < slots && good; i++) good = text_good(snap, slot[i].role) && slot[i].entry < snap->entry_count;
    for (uint32_t i = 0; i < words && good; i++) good = text_good(snap, word[i]);
    return good;
}

bool snapshot_cold_good(struct snapshot *snap) {
    if (!snap->cold_checked) snap->cold_good = check_cold(snap);
    snap->cold_checked = true;
    return snap->cold_good;
}

/* -- checking: one statx an entry, on a few threads */

#define THREADS_MOST 4
#define ENTRIES_A_THREAD 2000 /* fewer aren't worth a thread */

struct checking {
    const struct snapshot *snap;
    const uint64_t *devices;
    uint32_t first, end;
    uint32_t *dirty, count, cap;
    bool useless;
};

static bool unchanged(const struct checking *c, const struct snap_stat *then) {
    struct statx now;
    const char *path = (const char *)c->snap->map + c->snap->head->sections[SNAP_PATHS].offset + then->path;
    unsigned mask = STATX_TYPE | STATX_MODE | STATX_INO | STATX_SIZE | STATX_MTIME | STATX_CTIME;
    if (statx(AT_FDCWD, path, then->flags & SNAP_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0, mask, &now))
        return (errno == ENOENT || errno == ENOTDIR) && then->kind == FILE_ABSENT;
    static const uint8_t kinds[16] = {[S_IFREG >> 12] = FILE_REGULAR, [S_IFDIR >> 12] = FILE_FOLDER, [S_IFLNK >> 12] = FILE_LINK};
    uint8_t kind = kinds[(now.stx_mode & S_IFMT) >> 12];
    return kind == then->kind && kind && now.stx_size == then->size && now.stx_ino == then->ino
        && (int64_t)now.stx_mtime.tv_sec * 1000000000 + now.stx_mtime.tv_nsec == then->mtime_ns
        && (int64_t)now.stx_ctime.tv_sec * 1000000000 + now.stx_ctime.tv_nsec == then->ctime_ns
        && !(now.stx_mode & S_IXUSR) == !(then->flags & SNAP_EXECUTABLE)
        && makedev(now.stx_dev_major, now.stx_dev_minor) == c->devices[then->device];
}

static void *check_range(void *arg) {
    struct checking *c = arg;
    for (uint32_t i = c->first; i < c->end && !c->useless; i++) {
        const struct snap_stat *then = &c->snap->stats[i];
        if (then->flags & SNAP_GONE) continue;
        if (!(then->flags & SNAP_UNSURE) && unchanged(c, then)) continue;
        c->useless = then->flags & SNAP_GLOBAL;
        c->dirty = mem_grow(c->dirty, &c->cap, c->count + 1, sizeof *c->dirty);
        c->dirty[c->count++] = i;
    }
    return NULL;
}

static bool environment_same(const struct snapshot *snap) {
    uint32_t count;
    const struct snap_env *env = snapshot_section(snap, SNAP_ENV, sizeof *env, &count);
    const char *text = (const char *)snap->map + snap->head->sections[SNAP_PATHS].offset;
    for (uint32_t i = 0; i < count; i++) {
        const char *now = getenv(text + env[i].name), *then = env[i].value == NO_ID ? NULL : text + env[i].value;
        if (!now != !then || (now && strcmp(now, then))) return false;
    }
    return true;
}

enum snapshot_answer snapshot_check(struct snapshot *snap) {
    struct checking all[THREADS_MOST];
    pthread_t threads[THREADS_MOST];
    bool started[THREADS_MOST] = {false};
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t n = snap->entry_count / ENTRIES_A_THREAD + 1, unused;
    if (!environment_same(snap)) return SNAPSHOT_USELESS;
    if (n > THREADS_MOST) n = THREADS_MOST;
    if (processors > 0 && n > (uint32_t)processors) n = (uint32_t)processors;
    for (uint32_t i = 0; i < n; i++) {
        all[i] = (struct checking){.snap = snap, .first = (uint32_t)((uint64_t)snap->entry_count * i / n),
                                   .end = (uint32_t)((uint64_t)snap->entry_count * (i + 1) / n)};
        all[i].devices = snapshot_section(snap, SNAP_DEVICES, sizeof(uint64_t), &unused);
        if (i) started[i] = !pthread_create(&threads[i], NULL, check_range, &all[i]);
    }
    bool useless = false;
    for (uint32_t i = 0; i < n; i++) {
        if (started[i]) pthread_join(threads[i], NULL);
        else check_range(&all[i]);
        useless |= all[i].useless;
        snap->dirty = mem_grow(snap->dirty, &snap->dirty_cap, snap->dirty_count + all[i].count, sizeof *snap->dirty);
        if (all[i].count) memcpy(snap->dirty + snap->dirty_count, all[i].dirty, all[i].count * sizeof *snap->dirty);
        snap->dirty_count += all[i].count;
        free(all[i].dirty);
    }
    return useless ? SNAPSHOT_USELESS : snap->dirty_count ? SNAPSHOT_STALE : SNAPSHOT_CURRENT;
}
