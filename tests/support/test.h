/* test.h: what every C test program is written with.
 *
 *     #include "test.h"
 *
 *     TEST("a sum does not depend on the order")
 *     {
 *         CHECK_EQ(add(1, 2), add(2, 1));
 *     }
 *
 * A test's name is the sentence that it proves. For each test the program prints one line,
 * `ok NAME`, `not ok NAME: why` or `skip NAME: why`, and it exits 1 if any failed. `main` is in test.c,
 * which is all that has to be linked. Tests run in the order in which they stand in the file, in a process
 * apart, which goes on from one test to the next for as long as all goes well: a failed check or
 * a crash ends that process, and the tests after it run in a new one. So a check may leave everything
 * lying as it is, and a test must not rely on what an earlier one left in memory.
 *
 *     program [--list] [PART OF A NAME …]      runs the tests whose names contain one of these
 *
 * MB_TEST_FORK=0 runs all in one process and aborts at the first failed check, for a debugger.
 * MB_TEST_TIMEOUT is how many seconds one test may take (120). Must not know anything of mbuild, so
 * that it can be compiled alone.
 */
#ifndef MB_TEST_H
#define MB_TEST_H

#include <stddef.h>

#define TEST_PASTE_(a, b) a##b
#define TEST_PASTE(a, b) TEST_PASTE_(a, b)

/* TEST("sentence") { … } defines one test. */
#define TEST(sentence)                                                                             \
    static void TEST_PASTE(test_body_, __LINE__)(const void *);                                    \
    __attribute__((constructor)) static void TEST_PASTE(test_register_, __LINE__)(void)            \
    {                                                                                              \
        test_add(TEST_PASTE(test_body_, __LINE__), NULL, "%s", sentence);                          \
    }                                                                                              \
    static void TEST_PASTE(test_body_, __LINE__)(const void *test_unused __attribute__((unused)))

/* TEST_TABLE { … } runs before the tests do and adds some with test_add, one a row of a table say. */
#define TEST_TABLE __attribute__((constructor)) static void TEST_PASTE(test_table_, __LINE__)(void)

/* Adds a test: body(argument), named by format. `argument` must last for the whole program. */
void test_add(void (*body)(const void *argument), const void *argument, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* What each of these says when it fails begins with file:line and ends the test. */
#define CHECK(condition)                                                                           \
    ((condition) ? (void)0 : test_fail(__FILE__, __LINE__, "%s is false", #condition))
#define CHECKF(condition, ...) ((condition) ? (void)0 : test_fail(__FILE__, __LINE__, __VA_ARGS__))
#define FAIL(...) test_fail(__FILE__, __LINE__, __VA_ARGS__)
#define CHECK_EQ(found, expected)                                                                  \
    test_check_int(__FILE__, __LINE__, #found, (long long)(found), (long long)(expected))
#define CHECK_STR(found, expected) test_check_string(__FILE__, __LINE__, #found, found, expected)
#define CHECK_CONTAINS(found, part) test_check_contains(__FILE__, __LINE__, #found, found, part)
#define CHECK_MEM(found, expected, bytes)                                                          \
    test_check_memory(__FILE__, __LINE__, #found, found, expected, bytes)
/* |found - expected| ≤ tolerance; a NaN on one side alone fails. */
#define CHECK_NEAR(found, expected, tolerance)                                                     \
    test_check_near(__FILE__, __LINE__, #found, found, expected, tolerance)

/* Ends the test without judging it: the machine lacks what it needs. */
#define SKIP(...) test_skip(__VA_ARGS__)

/* An empty folder of this test's own, which goes when the test ends. The string lasts as long. */
const char *test_folder(void);

/* The path of a file in the source tree, and of one in the build tree (`bin/mbuild`, `lib/mbuild/train.so`);
 * MB_SOURCE and MB_BUILD say where these are, "." and "build" if unset. Of one in the folder of large data
 * that is not part of the project (MB_SHARED): skips the test where it is absent. The strings last until
 * the test ends. */
const char *test_source(const char *path);
const char *test_built(const char *path);
const char *test_shared(const char *path);

_Noreturn void test_fail(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
_Noreturn void test_skip(const char *format, ...) __attribute__((format(printf, 1, 2)));
void test_check_int(const char *file, int line, const char *what, long long found, long long expected);
void test_check_string(const char *file, int line, const char *what, const char *found, const char *expected);
void test_check_contains(const char *file, int line, const char *what, const char *found, const char *part);
void test_check_memory(const char *file, int line, const char *what, const void *found, const void *expected,
                       size_t bytes);
void test_check_near(const char *file, int line, const char *what, double found, double expected,
                     double tolerance);

#endif
