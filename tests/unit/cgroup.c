/* Where control groups are found, and what is written there, on trees that look like the kernel's: of version 2 as a system manager sets it up,
 * of version 1, of containers.
 */
#include "cgroup.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define UNIFIED "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
#define OTHERS "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n25 22 0:5 / /proc rw shared:5 - proc proc rw\n"

static char root[512];

static void make(const char *path, const char *text) {
    char full[4096];
    snprintf(full, sizeof full, "%s%s", root, path);
    for (char *c = full + strlen(root) + 1; (c = strchr(c, '/')); c++) {
        *c = 0;
        mkdir(full, 0777);
        *c = '/';
    }
    FILE *f = fopen(full, "w");
    CHECK(f && fputs(text, f) >= 0 && !fclose(f));
}

static const char *content(const char *path) {
    static char text[256];
    char full[4096];
    snprintf(full, sizeof full, "%s%s", root, path);
    FILE *f = fopen(full, "r");
    CHECKF(f, "there is no %s", path);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    return text;
}

/* A group as the kernel makes one when its folder is made; here the files must be there before. */
static void make_group(const char *folder, bool controllers) {
    static const char *const files[] = {"cgroup.procs", "memory.max", "pids.max", "memory.swap.max", "memory.oom.group"};
    char path[1024];
    for (size_t i = 0; i < (controllers ? 5 : 1); i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        make(path, "");
    }
    snprintf(path, sizeof path, "%s/cgroup.subtree_control", folder);
    make(path, "");
}

static bool find(const char *mounts, const char *self, struct cgroup_place *p, const char **lack) {
    static struct buf why;
    buf_clear(&why);
    bool found = cgroup_find_in(root, mounts, self, p, &why);
    if (lack) *lack = buf_str(&why);
    return found;
}

static void begin(void) {
    snprintf(root, sizeof root, "%s", test_folder());
}

TEST("groups are made beside the one that mbuild is in, where that one's parent hands memory and processes on") {
    struct cgroup_place p;
    char expected[4096];
    begin();
    make_group("/sys/fs/cgroup/system.slice", true);
    make_group("/sys/fs/cgroup/system.slice/ci.service", true);
    make("/sys/fs/cgroup/system.slice/cgroup.subtree_control", "cpu memory pids\n");
    CHECK(find(OTHERS UNIFIED, "0::/system.slice/ci.service\n", &p, NULL));
    snprintf(expected, sizeof expected, "%s/sys/fs/cgroup/system.slice", root);
    CHECK(p.unified);
    CHECK_STR(p.memory, expected);
    CHECK_STR(p.processes, expected);
}

TEST("a group holds what is written to it: memory with what processes need besides, processes, no swap, all or none") {
    struct cgroup_place p = {.unified = true};
    char name[64];
    begin();
    snprintf(p.memory, sizeof p.memory, "%s/top", root);
    memcpy(p.processes, p.memory, sizeof p.memory);
    make_group("/top", false);
    cgroup_name(name, 12, 7);
    CHECK_STR(name, "mbuild-12-7");
    CHECK(cgroup_make(&p, name, 100 << 20)); /* a plain folder has no memory.max: refused, and nothing stays */
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", p.memory, name);
    CHECK(access(path, F_OK));
    make_group("/top/mbuild-12-7", true);
    CHECK(!cgroup_limit(&p, name, 100 << 20));
    CHECK_STR(content("/top/mbuild-12-7/memory.max"), "113246208");
    make("/top/mbuild-12-7/memory.max", "");
    CHECK(!cgroup_limit(&p, name, 0));
    CHECK_STR(content("/top/mbuild-12-7/memory.max"), "max");
    CHECK(!cgroup_enter(&p, name, 4711));
    CHECK_STR(content("/top/mbuild-12-7/cgroup.procs"), "4711");
    make("/top/mbuild-12-7/memory.events", "low 0\nhigh 0\nmax 31\noom 2\noom_kill 3\noom_group_kill 1\n");
    CHECK_EQ(cgroup_kills(&p, name), 3);
}

TEST("version 1 has a folder for each, of which a container sees its own part only") {
    struct cgroup_place p;
    char expected[4096];
    const char *mounts = OTHERS "31 23 0:27 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
                                "32 23 0:28 /docker/abc /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n";
    begin();
    make("/sys/fs/cgroup/memory/cgroup.procs", "");
    make("/sys/fs/cgroup/pids/cgroup.procs", "");
    CHECK(find(mounts, "9:pids:/docker/abc\n4:memory:/docker/abc\n0::/\n", &p, NULL));
    CHECK(!p.unified);
    snprintf(expected, sizeof expected, "%s/sys/fs/cgroup/memory", root);
    CHECK_STR(p.memory, expected);
    snprintf(expected, sizeof expected, "%s/sys/fs/cgroup/pids", root);
    CHECK_STR(p.processes, expected);
}

TEST("a controller is known by its whole name, and lines that make no sense are passed over") {
    struct cgroup_place p;
    const char *lack;
    begin();
    make("/sys/fs/cgroup/memory/cgroup.procs", "");
    const char *mounts = "nonsense\n\n - - -\n31 23 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
    CHECK(!find(mounts, "nonsense\n4:memoryless,xmemory:/\n::::\n", &p, &lack));
    CHECK_CONTAINS(lack, "no control group here has a limit of memory");
    CHECK(find(mounts, "4:cpu,memory:/\n", &p, NULL));
    CHECK_STR(p.processes, "");
    CHECK(!find("", "", &p, &lack));
    CHECK(!find(OTHERS UNIFIED, "0::/nowhere\n", &p, &lack));
}
