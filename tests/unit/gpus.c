/* Which GPUs steps get. */
#include "gpus.h"
#include "test.h"

static struct arena arena;
static struct gpus g;

TEST("without a list all GPUs of the machine are there, by number")
{
    gpus_open(&g, NULL, 3, &arena);
    CHECK_EQ(g.count, 3);
    CHECK_STR(gpus_text(&g, 7, &arena), "0,1,2");
    gpus_open(&g, NULL, 0, &arena);
    CHECK_EQ(g.count, 0);
    gpus_open(&g, NULL, 1000, &arena);
    CHECK_EQ(g.count, GPUS_MOST);
    arena_free(&arena);
}

TEST("of a list in CUDA_VISIBLE_DEVICES those up to the first that is none are there, by the names that it has")
{
    static const struct {
        const char *list;
        int count;
        const char *names;
    } lists[] = {
        {"2,0", 2, "2,0"}, {"", 0, ""}, {"-1", 0, ""}, {"1,-1,2", 1, "1"}, {"3", 0, ""}, {"0,7,1", 1, "0"}, {" 1 , 2 ", 2, "1,2"}, {"1,,2", 1, "1"},
        {"GPU-5fe2a1b8,MIG-77,1", 3, "GPU-5fe2a1b8,MIG-77,1"}, {"999999999999", 0, ""}, {"0 1", 1, "0"}, {",0", 0, ""},
    };
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        gpus_open(&g, lists[i].list, 3, &arena);
        CHECKF(g.count == lists[i].count, "\"%s\": %d", lists[i].list, g.count);
        CHECK_STR(gpus_text(&g, ~UINT64_C(0), &arena), lists[i].names);
    }
    gpus_open(&g, "GPU-5fe2a1b8", 0, &arena);
    CHECK_EQ(g.count, 0);
    arena_free(&arena);
}

TEST("a GPU that is held is given to no other until it is given back")
{
    gpus_open(&g, "4,5,6,7", 8, &arena);
    uint64_t a = gpus_hold(&g, 2), b = gpus_hold(&g, 1), none = gpus_hold(&g, 0);
    CHECK_STR(gpus_text(&g, a, &arena), "4,5");
    CHECK_STR(gpus_text(&g, b, &arena), "6");
    CHECK_STR(gpus_text(&g, none, &arena), "");
    gpus_release(&g, a);
    CHECK_STR(gpus_text(&g, gpus_hold(&g, 3), &arena), "4,5,7");
    arena_free(&arena);
}
