/* Dotted names, and model cards filled in with what they name. */
#include "lib/lookup.h"
#include "package/package.h"
#include "test.h"

#include <string.h>

static struct mbl_arena arena;

static const struct mbl_json *scores(void) {
    static const char text[] =
        "{\"accuracy\":0.97254,\"rows\":180,\"mse\":12345.6,\"per_class\":{\"3\":{\"recall\":0.5},\"a.b\":{\"recall\":1}},"
        "\"list\":[{\"x\":7},8],\"name\":\"digits\",\"null\":null}";
    struct mbl_json *v;
    struct mbl_error e;
    CHECK(!mbl_json_parse(text, strlen(text), "scores", &arena, &v, &e));
    return v;
}

TEST("a dotted name leads through tables and lists, and keys may hold dots") {
    CHECK_NEAR(mbl_json_number(mbl_lookup(scores(), "per_class.3.recall")), 0.5, 0);
    CHECK_NEAR(mbl_json_number(mbl_lookup(scores(), "per_class.a.b.recall")), 1, 0);
    CHECK_NEAR(mbl_json_number(mbl_lookup(scores(), "list.0.x")), 7, 0);
    CHECK_NEAR(mbl_json_number(mbl_lookup(scores(), "list.1")), 8, 0);
    static const char *const absent[] = {
        "", ".", "accuracy.", "accuracy.x", "list.2", "list.-1", "list.1x", "per_class..recall", "list.99999999999999999999"};
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++) CHECKF(!mbl_lookup(scores(), absent[i]), "\"%s\" was found", absent[i]);
    CHECK(!mbl_lookup(NULL, "x"));
}

TEST("the nearest name is one that could have been meant") {
    CHECK_STR(mbl_lookup_nearest(scores(), "acuracy", false, &arena), "accuracy");
    CHECK_STR(mbl_lookup_nearest(scores(), "per_class.3.recal", false, &arena), "per_class.3.recall");
    CHECK(!mbl_lookup_nearest(scores(), "name", false, &arena) || strcmp(mbl_lookup_nearest(scores(), "name", false, &arena), "name"));
    CHECK_STR(mbl_lookup_nearest(scores(), "nme", true, &arena), "name");
    CHECK(!mbl_lookup_nearest(scores(), "quite_another_thing", false, &arena));
}

static const char *rendered(const char *text) {
    struct mbl_buf out = {0};
    struct mbl_error e;
    int status = card_render(text, "CARD.md", scores(), &out, &e);
    const char *text_out = mbl_arena_strdup(&arena, status ? e.text : mbl_buf_str(&out));
    mbl_buf_free(&out);
    return text_out;
}

TEST("a card shows figures as people write them") {
    CHECK_STR(rendered("# {{name}}\n{{ accuracy }} of {{rows}}, {{mse}}, {{per_class.3.recall}} { {x}\n"),
              "# digits\n0.9725 of 180, 12346, 0.5 { {x}\n");
    CHECK_STR(rendered(""), "");
}

TEST("what a card names and nobody has is told with its line and the nearest name") {
    CHECK_STR(rendered("a\nb {{acuracy}}\n"), "CARD.md:2: nothing is called {{acuracy}}; did you mean {{accuracy}}?");
    CHECK_STR(rendered("\n\n{{per_class}}"), "CARD.md:3: {{per_class}} is a table, which a card can't show");
    CHECK_STR(rendered("{{rows\n}}"), "CARD.md:1: \"{{\" without \"}}\" in the same line");
    CHECK_CONTAINS(rendered("{{}}"), "CARD.md:1: nothing is called {{}}");
}
