/* Memory by lifetime: arenas, buffers, interned strings, near names; and what happens when there is none left. */
#include "mem.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* An allocation that fails is part of these tests, also under AddressSanitizer. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) {
    return "allocator_may_return_null=1";
}

TEST("an arena's pieces are aligned to 16, cleared, apart, and of any size") {
    struct arena a = {0};
    unsigned char *pieces[300];
    size_t total = 0;
    for (size_t i = 0; i < 300; i++) {
        size_t size = i % 50 ? i : i * 3000;
        pieces[i] = arena_alloc(&a, size);
        CHECK_EQ((uintptr_t)pieces[i] % 16, 0);
        for (size_t k = 0; k < size; k++) CHECK_EQ(pieces[i][k], 0);
        memset(pieces[i], (int)i, size);
        total += size;
    }
    for (size_t i = 0; i < 300; i++)
        for (size_t k = 0; k < (i % 50 ? i : i * 3000); k++) CHECK_EQ(pieces[i][k], i & 0xff);
    CHECK(a.total >= total && a.total < 2 * total + (1 << 20));
    arena_free(&a);
    CHECK_EQ(a.total, 0);
    arena_free(&a);
}

TEST("strings in an arena are copies") {
    struct arena a = {0};
    char text[] = "abc";
    char *whole = arena_strdup(&a, text), *part = arena_strndup(&a, text, 2);
    char *printed = arena_printf(&a, "%s-%0*d", text, 3000, 7);
    text[0] = 'x';
    CHECK_STR(whole, "abc");
    CHECK_STR(part, "ab");
    CHECK_EQ(strlen(printed), 3004);
    CHECK(!strncmp(printed, "abc-0", 5) && printed[3003] == '7');
    arena_free(&a);
}

TEST("a buffer grows by bytes, text and format, and ends in NUL at every moment") {
    struct buf b = {0};
    CHECK_STR(buf_str(&b), "");
    buf_add(&b, "a\0b", 3);
    CHECK_EQ(b.len, 3);
    CHECK_MEM(b.data, "a\0b\0", 4);
    buf_clear(&b);
    CHECK_STR(buf_str(&b), "");
    for (int i = 0; i < 1000; i++) {
        buf_addf(&b, "%d,", i);
        buf_addc(&b, 'x');
        CHECK_EQ(b.data[b.len], 0);
        CHECK_EQ(strlen(b.data), b.len);
    }
    CHECK(!strncmp(b.data, "0,x1,x2,x", 9));
    buf_adds(&b, "");
    buf_add(&b, NULL, 0);
    buf_free(&b);
    CHECK(!b.data && !b.len);
}

TEST("an array that grows keeps what is in it") {
    uint32_t *array = NULL, cap = 0;
    for (uint32_t i = 0; i < 10000; i++) {
        array = mem_grow(array, &cap, i + 1, sizeof *array);
        CHECK(cap > i);
        array[i] = i * 3;
    }
    for (uint32_t i = 0; i < 10000; i++) CHECK_EQ(array[i], i * 3);
    CHECK(mem_grow(array, &cap, 5, sizeof *array) == array);
    free(array);
}

TEST("equal strings have one id, the ids are dense, and 50,000 are found again") {
    struct intern t = {0};
    char name[32];
    CHECK_EQ(intern_find(&t, "a"), NO_ID);
    for (uint32_t i = 0; i < 50000; i++) {
        snprintf(name, sizeof name, "build/%u.o", i);
        CHECK_EQ(intern_add(&t, name), i);
    }
    for (uint32_t i = 0; i < 50000; i++) {
        snprintf(name, sizeof name, "build/%u.o", i);
        CHECK_EQ(intern_find(&t, name), i);
        CHECK_EQ(intern_add(&t, name), i);
        CHECK_STR(t.strings[i], name);
    }
    CHECK_EQ(t.count, 50000);
    CHECK_EQ(intern_find(&t, "build/50000.o"), NO_ID);
    CHECK_EQ(intern_add(&t, ""), 50000);
    CHECK_EQ(intern_find(&t, ""), 50000);
    intern_free(&t);
}

TEST("a part of a string is interned without what follows it, and prefixes are apart") {
    struct intern t = {0};
    char *exact = mem_alloc(3); /* no NUL behind */
    memcpy(exact, "abc", 3);
    CHECK_EQ(intern_addn(&t, exact, 3), 0);
    CHECK_EQ(intern_addn(&t, exact, 2), 1);
    CHECK_EQ(intern_add(&t, "abcd"), 2);
    CHECK_EQ(intern_find(&t, "abc"), 0);
    CHECK_EQ(intern_find(&t, "ab"), 1);
    free(exact);
    intern_free(&t);
}

TEST("the nearest name is suggested, and none where all are far") {
    static const char *const names[] = {"epochs", "batch", "learning_rate", "lr", "seed"};
    static const char *const rows[][2] = {{"epoch", "epochs"}, {"ephocs", "epochs"}, {"bacth", "batch"}, {"learning_rte", "learning_rate"},
                                          {"sed", "seed"}, {"rl", "lr"}, {"quantize", NULL}, {"x", NULL}, {"batch", "batch"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) CHECK_STR(mem_nearest(rows[i][0], names, 5), rows[i][1]);
    CHECK_STR(mem_nearest("batch", NULL, 0), NULL);
    char longer[500];
    memset(longer, 'a', sizeof longer);
    longer[499] = 0;
    CHECK_STR(mem_nearest(longer, names, 5), NULL);
}

TEST("strings of their own can be made from text and format") {
    char *copy = mem_strdup("abc"), *printed = mem_printf("%d %s", 3, copy), *empty = mem_printf("%s", "");
    CHECK_STR(printed, "3 abc");
    CHECK_STR(empty, "");
    copy = mem_realloc(copy, 0);
    CHECK(copy != NULL);
    free(copy);
    free(printed);
    free(empty);
}

/* -- no memory */

static void ask_alloc(void) {
    free(mem_alloc(SIZE_MAX / 2));
}

static void ask_realloc(void) {
    free(mem_realloc(NULL, SIZE_MAX / 2));
}

static void ask_grow(void) {
    uint32_t cap = 0;
    free(mem_grow(NULL, &cap, UINT32_MAX, 1 << 20));
}

static void ask_buf(void) {
    struct buf b = {.len = SIZE_MAX - 3, .cap = SIZE_MAX};
    buf_add(&b, "abcdef", 6);
}

TEST("memory that runs out ends the program with status 2 and one line that says so") {
    static void (*const asks[])(void) = {ask_alloc, ask_realloc, ask_grow, ask_buf};
    for (size_t i = 0; i < sizeof asks / sizeof *asks; i++) {
        int ends[2], status;
        char text[4096];
        CHECK(!pipe(ends));
        pid_t child = fork();
        if (!child) {
            dup2(ends[1], STDERR_FILENO);
            asks[i]();
            _exit(0);
        }
        close(ends[1]);
        size_t n = 0;
        for (ssize_t got; (got = read(ends[0], text + n, sizeof text - 1 - n)) > 0;) n += (size_t)got;
        text[n] = 0;
        close(ends[0]);
        CHECK(waitpid(child, &status, 0) == child);
        CHECKF(WIFEXITED(status) && WEXITSTATUS(status) == 2, "case %zu: status %x: %s", i, status, text);
        CHECK_CONTAINS(text, "mbuild: out of memory (asked for ");
    }
}
