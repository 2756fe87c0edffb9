/* rules_time.c: how long rules may take. The limit of instructions doesn't see what Lua's own libraries do in C: a pattern that backtracks for
 * ever, a table moved by a million million places, strings of gigabytes joined again and again.
 *
 * While rules run, a timer of the thread's processor time ticks. When all the time is used up, the next instruction, or the next call of a
 * library, fails like any other. When one call of a library function goes on for too long, there is no next instruction: then the tick's handler
 * jumps out of it. That leaves Lua's state as it stands, so it is never touched again, and its memory is given up. The jump
 * is only taken in such a call (each is wrapped so that it is known) and never while memory is being allocated, so nothing outside
 * of Lua's state can be half done. Must not know what rules are.
 */
#include "rules_private.h"

#include <lualib.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TIME_MOST_MS 60000
#define CALL_MOST_MS 10000
#define TICKS_A_CALL 20 /* until a call counts as one that doesn't end */

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static struct rules *volatile ticking; /* whose rules run now */
static sigjmp_buf way_out;

static void on_tick(int number) {
    struct rules *r = ticking;
    (void)number;
    if (!r) return;
    struct rules_clock *c = &r->clock;
    bool stuck = c->call && c->calls == c->seen_calls;
    c->seen_calls = c->calls;
    c->stuck = stuck ? c->stuck + 1 : 0;
    if (++c->ticks >= c->ticks_most && !c->over) {
        c->over = true;
        lua_sethook(r->coroutine ? r->coroutine : r->L, rules_count_hook, LUA_MASKCOUNT, 1); /* may be called at any time, says lua.c */
        if (c->state) lua_sethook(c->state, rules_count_hook, LUA_MASKCOUNT, 1);
    }
    if (c->stuck >= TICKS_A_CALL && !r->allocating) siglongjmp(way_out, 1);
}

/* -- library functions */

static int checked_call(lua_State *L) {
    struct rules *r = rules_of(L); /* which says that no library function runs: an error leaves one without a word */
    struct rules_clock *c = &r->clock;
    if (c->over) rules_fail_time(L);
    lua_CFunction f = lua_tocfunction(L, lua_upvalueindex(1));
    c->state = L;
    c->call = lua_tostring(L, lua_upvalueindex(2)); /* lives as long as this function does */
    int results = f(L);
    c->call = NULL;
    return results;
}

/* gmatch gives an iterator, a function with values of its own. */
static int checked_next(lua_State *L) {
    struct rules *r = rules_of(L);
    struct rules_clock *c = &r->clock;
    if (c->over) rules_fail_time(L);
    lua_settop(L, 0);
    lua_pushvalue(L, lua_upvalueindex(1));
    c->state = L;
    c->call = "string.gmatch";
    lua_call(L, 0, LUA_MULTRET);
    c->call = NULL;
    return lua_gettop(L);
}

static int checked_gmatch(lua_State *L) {
    if (checked_call(L) != 1) return 0;
    lua_pushcclosure(L, checked_next, 1);
    return 1;
}

/* In place of each function of the library at the top of the stack, one that is checked. */
static void check_library(lua_State *L, const char *library) {
    for (lua_pushnil(L); lua_next(L, -2);) {
        if (!lua_iscfunction(L, -1)) {
            lua_pop(L, 1);
            continue;
        }
        const char *name = lua_tostring(L, -2);
        lua_pushfstring(L, "%s.%s", library, name);
        lua_pushcclosure(L, strcmp(name, "gmatch") ? checked_call : checked_gmatch, 2);
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_settable(L, -4); /* a field that is there already: lua_next goes on */
    }
}

static void check_global(lua_State *L, const char *name) {
    lua_getglobal(L, name);
    lua_pushstring(L, name);
    lua_pushcclosure(L, checked_call, 2);
    lua_setglobal(L, name);
}

void rules_open_time(lua_State *L) {
    static const char *const libraries[] = {LUA_STRLIBNAME, LUA_TABLIBNAME, LUA_UTF8LIBNAME}, *const globals[] = {"load", "pairs"};
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++) {
        lua_getglobal(L, libraries[i]);
        check_library(L, libraries[i]);
        lua_pop(L, 1);
    }
    for (size_t i = 0; i < sizeof globals / sizeof *globals; i++) check_global(L, globals[i]);
}

void rules_fail_time(lua_State *L) {
    const struct rules *r = rules_of(L);
    rules_fail(L, "the rules ran for more than %u s of processor time: a loop that never ends?", r->clock.time_most_ms / 1000);
}

/* -- running */

static int fail_stuck(struct rules *r, struct err *e) {
    const char *file = r->options->file;
    char source[200];
    int line = rules_line(r->clock.state, source, sizeof source);
    r->broken = true;
    if (line) file = source;
    return err_set(e, "%s:%d: one call of %s took more than %u s of processor time and was ended%s", file, line, r->clock.call,
                   r->clock.call_most_ms / 1000, strncmp(r->clock.call, "string.", 7) ? "" : ": a pattern that can match in too many ways?");
}

int rules_run(struct rules *r, int (*body)(struct rules *r, void *arg, struct err *e), void *arg, struct err *e) {
    struct rules_clock *c = &r->clock;
    struct sigaction tick = {.sa_handler = on_tick, .sa_flags = SA_RESTART}, before;
    struct sigevent to_us = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGVTALRM};
    timer_t timer;
    if (r->broken) return err_set(e, "%s: its rules were ended before and can't go on", r->options->file);
    c->time_most_ms = r->options->time_most_ms ? r->options->time_most_ms : TIME_MOST_MS;
    c->call_most_ms = r->options->call_most_ms ? r->options->call_most_ms : CALL_MOST_MS;
    long tick_ns = (long)c->call_most_ms * 1000000 / TICKS_A_CALL;
    c->ticks_most = (uint32_t)((uint64_t)c->time_most_ms * 1000000 / (uint64_t)tick_ns);
    c->call = NULL;
    c->stuck = 0;
    struct itimerspec every = {.it_interval = {tick_ns / 1000000000, tick_ns % 1000000000}};
    every.it_value = every.it_interval;
    to_us.sigev_notify_thread_id = gettid();
    sigemptyset(&tick.sa_mask);
    if (sigaction(SIGVTALRM, &tick, &before)) return err_errno(e, "sigaction");
    if (timer_create(CLOCK_THREAD_CPUTIME_ID, &to_us, &timer)) {
        err_errno(e, "timer_create");
        sigaction(SIGVTALRM, &before, NULL);
        return -1;
    }
    int status;
    if (sigsetjmp(way_out, 1)) {
        status = fail_stuck(r, e);
    } else {
        ticking = r;
        status = timer_settime(timer, 0, &every, NULL) ? err_errno(e, "timer_settime") : body(r, arg, e);
    }
    ticking = NULL;
    c->call = NULL;
    timer_delete(timer);
    sigaction(SIGVTALRM, &before, NULL);
    return status;
}
