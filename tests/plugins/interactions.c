/* The step dataset.interactions: what it reads, refuses and splits, and what comes out. */
#include "lib/interactions.h"
#include "small_pairs.h"

static struct mbl_error error;

/* The part, opened; it stays open until the test's process ends. */
static struct mbl_interactions *open_part(const char *name) {
    struct mbl_dataset *d = pairs_kept(calloc(1, sizeof *d));
    struct mbl_interactions *x = pairs_kept(calloc(1, sizeof *x));
    if (mbl_dataset_open(pairs_path(name), d, &error) || mbl_interactions_open(d, x, &error)) FAIL("%s", error.text);
    CHECK_EQ(d->schema.task, MBL_INTERACTIONS);
    return x;
}

/* "a:x b:y", in the part's order. */
static const char *rows_of(const struct mbl_interactions *x) {
    static char text[4096];
    size_t n = 0;
    *text = 0;
    for (int64_t i = 0; i < x->rows; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%s:%s", i ? " " : "", x->catalogue->side[MBL_USERS].ids[x->users[i]],
                              x->catalogue->side[MBL_ITEMS].ids[x->items[i]]);
    return text;
}

static void refuse(const char *params, const char *text, const char *users, const char *items, const char *message) {
    struct fake *f;
    CHECK_EQ(pairs_make(&f, params, text, users, items), MB_FAILED);
    CHECK_CONTAINS(f->message, message);
}

static void accept(const char *params, const char *text, const char *users, const char *items) {
    struct fake *f;
    if (pairs_make(&f, params, text, users, items) != MB_OK) FAIL("%s", f->message);
}

/* -- reading */

TEST("CSV, TSV and JSON Lines of the same interactions give the same part")
{
    accept("{\"rating\": \"rating\", \"time\": \"t\"}", "user,item,rating,t\n7,007,1.5,3\nx,\"a,b\",2,4\n", NULL, NULL);
    struct mbl_interactions *csv = open_part("all");
    CHECK_STR(rows_of(csv), "7:007 x:a,b");
    accept("{\"rating\": \"rating\", \"time\": \"t\"}", "t\tuser\trating\titem\n3\t7\t1.5\t007\n4\tx\t2\ta,b\n", NULL, NULL);
    struct mbl_interactions *tsv = open_part("all");
    CHECK_STR(rows_of(tsv), "7:007 x:a,b");
    accept("{\"rating\": \"rating\", \"time\": \"t\"}",
           "{\"user\": 7, \"item\": \"007\", \"rating\": 1.5, \"t\": 3}\n{\"item\": \"a,b\", \"user\": \"x\", \"t\": 4, \"rating\": 2, "
           "\"more\": 1}\n",
           NULL, NULL);
    struct mbl_interactions *lines = open_part("all");
    CHECK_STR(rows_of(lines), "7:007 x:a,b");
    CHECK_MEM(csv->ratings, tsv->ratings, 8);
    CHECK_MEM(csv->ratings, lines->ratings, 8);
}

TEST("ids stay what they are: 007 is not 7, and both are users")
{
    accept("{}", "user,item\n007,a\n7,a\n07,a\n", NULL, NULL);
    CHECK_EQ(open_part("all")->catalogue->side[MBL_USERS].count, 3);
}

TEST("a time may be a number or a date; dates are told apart to the second, and before 1970")
{
    accept("{\"time\": \"t\", \"split\": {\"by\": \"time\", \"train\": 0.5, \"test\": 0.5}}",
           "user,item,t\na,p,2024-03-01\na,q,2024-02-29T23:59:59Z\na,r,1969-12-31 10:00\na,s,2024-02-29T23:59:58.5\n", NULL, NULL);
    CHECK_STR(rows_of(open_part("train")), "a:r a:s");
    CHECK_STR(rows_of(open_part("test")), "a:p a:q");
}

TEST("a rating that is no number is told with its line")
{
    refuse("{\"rating\": \"r\"}", "user,item,r\na,x,4\nb,y,good\n", NULL, NULL, "pairs.csv:3: the rating \"good\" is no number");
}
TEST("a rating that is missing is told with its line")
{
    refuse("{\"rating\": \"r\"}", "user,item,r\na,x,4\nb,y,NA\n", NULL, NULL, "pairs.csv:3: there is no rating");
}
TEST("an infinite rating is no number")
{
    refuse("{\"rating\": \"r\"}", "user,item,r\na,x,1e60\n", NULL, NULL, "pairs.csv:2: the rating \"1e60\" is no number");
}
TEST("a time that is none is told with its line and with what would be one")
{
    refuse("{\"time\": \"t\"}", "user,item,t\na,x,2024-13-01\n", NULL, NULL,
           "pairs.csv:2: the time \"2024-13-01\" is neither a number nor a date such as");
}
TEST("an interaction of nobody is told with its line")
{
    refuse("{}", "user,item\n,x\n", NULL, NULL, "pairs.csv:2: there is no user");
    refuse("{}", "user,item\na,x\nb,\n", NULL, NULL, "pairs.csv:3: there is no item");
}
TEST("a list of items in one record is refused with its line")
{
    refuse("{}", "{\"user\": \"a\", \"item\": \"x\"}\n{\"user\": \"a\", \"item\": [\"y\", \"z\"]}\n", NULL, NULL,
           "pairs.csv:2: the item is a list; one interaction a record expected");
}
TEST("a column that isn't there is told with those that are")
{
    refuse("{\"user\": \"who\"}", "user,item\na,x\n", NULL, NULL, "pairs.csv: user: there is no column \"who\"; there is user, item");
}
TEST("a pair that is there again is told with both lines and what may be done")
{
    refuse("{}", "user,item\na,x\nb,x\na,x\n", NULL, NULL, "pairs.csv:4: user \"a\" and item \"x\" are a pair that ");
    refuse("{}", "user,item\na,x\nb,x\na,x\n", NULL, NULL, "pairs.csv:2 has already; clean = { duplicates = \"drop\" }");
}
TEST("of a pair that is there again the first is kept, or the latest")
{
    const char *text = "user,item,t,r\na,x,5,1\na,x,9,2\nb,x,1,3\na,x,7,4\n";
    accept("{\"time\": \"t\", \"rating\": \"r\", \"clean\": {\"duplicates\": \"drop\"}}", text, NULL, NULL);
    CHECK_NEAR(open_part("all")->ratings[0], 1, 0);
    accept("{\"time\": \"t\", \"rating\": \"r\", \"clean\": {\"duplicates\": \"last\"}}", text, NULL, NULL);
    struct mbl_interactions *x = open_part("all");
    CHECK_EQ(x->rows, 2);
    CHECK_NEAR(x->ratings[0], 2, 0);
}
TEST("what is rated too low doesn't count, and whoever has nothing else isn't there")
{
    accept("{\"rating\": \"r\", \"least_rating\": 3}", "user,item,r\na,x,5\na,y,2\nb,y,1\n", NULL, NULL);
    CHECK_STR(rows_of(open_part("all")), "a:x");
    CHECK_EQ(open_part("all")->catalogue->side[MBL_USERS].count, 1);
}
TEST("data with no interaction that counts are refused")
{
    refuse("{\"rating\": \"r\", \"least_rating\": 9}", "user,item,r\na,x,5\n", NULL, NULL,
           "has no interactions that are rated well enough");
}

/* -- tables of features */

static const char *const two = "user,item\na,x\nb,y\n";

TEST("an item of the table that nobody took is told with its line, unless it is to be kept or dropped")
{
    const char *items = "item,kind\nx,k1\nz,k2\ny,k1\n";
    refuse("{}", two, NULL, items, "items.csv:3: item \"z\" has no interaction; unknown = \"keep\"");
    accept("{\"items\": {\"unknown\": \"keep\"}}", two, NULL, items);
    const struct mbl_entities *kept = &open_part("all")->catalogue->side[MBL_ITEMS];
    CHECK_EQ(kept->count, 3);
    CHECK_EQ(kept->trained, 2);
    CHECK_STR(kept->ids[2], "z");
    accept("{\"items\": {\"unknown\": \"drop\"}}", two, NULL, items);
    CHECK_EQ(open_part("all")->catalogue->side[MBL_ITEMS].count, 2);
}
TEST("however many items are dropped, and some twice, the others keep their features")
{
    struct mbl_buf items = {0};
    mbl_buf_adds(&items, "item,size\n");
    for (int i = 0; i < 60; i++) mbl_buf_addf(&items, "z%d,7\nz%d,7\n", i, i / 2);
    mbl_buf_adds(&items, "x,1\ny,3\n");
    accept("{\"items\": {\"unknown\": \"drop\"}}", two, NULL, mbl_buf_str(&items));
    const struct mbl_entities *s = &open_part("all")->catalogue->side[MBL_ITEMS];
    CHECK_EQ(s->count, 2);
    CHECK_STR(s->ids[0], "x");
    CHECK_STR(s->ids[1], "y");
    CHECK_NEAR(s->numbers[0], 1, 0);
    CHECK_NEAR(s->numbers[1], 3, 0);
    mbl_buf_free(&items);
}
TEST("columns of lists are no features, and an id is no list")
{
    accept("{}", two, NULL,
           "{\"item\": \"x\", \"genres\": [\"a\", \"b\"], \"tags\": [\"c\"], \"size\": 1}\n"
           "{\"item\": \"y\", \"genres\": [\"a\"], \"tags\": [\"d\"], \"size\": 2}\n");
    const struct mbl_entities *s = &open_part("all")->catalogue->side[MBL_ITEMS];
    CHECK_EQ(s->trait_count, 1);
    CHECK_STR(s->traits[0].name, "size");
    refuse("{}", two, NULL, "{\"item\": [\"x\", \"y\"]}\n", "\"item\" is a list");
    refuse("{}", two, NULL, "{\"item\": \"x\", \"g\": [\"a\"]}\n{\"item\": \"y\", \"g\": \"a\"}\n",
           "\"g\" is a list, but not so in every row");
}
TEST("an interaction whose user is not in the table is told with its line, unless features may be missing")
{
    refuse("{}", two, "user,age\na,30\n", NULL, "pairs.csv:3: user \"b\" is not in ");
    accept("{\"users\": {\"missing\": \"keep\"}}", two, "user,age\na,30\n", NULL);
    const struct mbl_entities *s = &open_part("all")->catalogue->side[MBL_USERS];
    CHECK_NEAR(s->numbers[0], 30, 0);
    CHECK(isnan(s->numbers[1]));
}
TEST("an id that stands twice in a table is told with both lines")
{
    refuse("{}", two, "user,age\na,30\nb,31\na,32\n", NULL, "users.csv:4: user \"a\" is in line 2 already");
}
TEST("a table without the column of ids is refused")
{
    refuse("{\"items\": {\"id\": \"key\"}}", two, NULL, "item,kind\nx,k\ny,k\n", "there is no column \"key\"");
}
TEST("numbers are scaled by those met in training alone, and categories are sorted")
{
    accept("{\"items\": {\"unknown\": \"keep\", \"ignore\": [\"note\"]}}", two, NULL,
           "item,kind,size,note\nx,k2,1,n\ny,k1,3,n\nz,k3,1000,n\n");
    const struct mbl_entities *s = &open_part("all")->catalogue->side[MBL_ITEMS];
    CHECK_EQ(s->trait_count, 2);
    CHECK_STR(s->traits[0].categories[0], "k1");
    CHECK_NEAR(s->traits[1].offset, 2, 0);
    CHECK_NEAR(s->traits[1].factor, 1, 1e-6);
    CHECK_EQ(s->codes[0][0], 1);
}

/* -- splits */

static const char *const five = "user,item,t\na,p,1\na,q,5\na,r,3\na,s,4\na,u,2\nb,p,9\nb,q,8\nc,p,7\n";

TEST("of each user the latest are held back; one with too few stays in training")
{
    accept("{\"time\": \"t\", \"split\": {\"by\": \"last\", \"val\": 1, \"test\": 1}}", five, NULL, NULL);
    CHECK_STR(rows_of(open_part("train")), "a:p a:r a:u b:p b:q c:p");
    CHECK_STR(rows_of(open_part("val")), "a:s");
    CHECK_STR(rows_of(open_part("test")), "a:q");
}
TEST("without times the source's order is the order")
{
    accept("{\"split\": {\"by\": \"last\", \"test\": 1}}", five, NULL, NULL);
    CHECK_STR(rows_of(open_part("test")), "a:u b:q");
}
TEST("a split by time cuts at one moment for everybody")
{
    accept("{\"time\": \"t\", \"split\": {\"by\": \"time\", \"train\": 0.5, \"val\": 0.25, \"test\": 0.25}}", five, NULL, NULL);
    CHECK_STR(rows_of(open_part("train")), "a:p a:r a:s a:u");
    CHECK_STR(rows_of(open_part("val")), "a:q c:p");
    CHECK_STR(rows_of(open_part("test")), "b:p b:q");
}
TEST("a random split follows from its seed")
{
    static char first[4096];
    accept("{\"split\": {\"train\": 0.5, \"test\": 0.5, \"seed\": 1}}", five, NULL, NULL);
    snprintf(first, sizeof first, "%s", rows_of(open_part("train")));
    accept("{\"split\": {\"train\": 0.5, \"test\": 0.5, \"seed\": 1}}", five, NULL, NULL);
    CHECK_STR(rows_of(open_part("train")), first);
    accept("{\"split\": {\"train\": 0.5, \"test\": 0.5, \"seed\": 2}}", five, NULL, NULL);
    CHECK(strcmp(rows_of(open_part("train")), first) != 0);
}
TEST("a split that can't be is refused before anything is read")
{
    refuse("{\"split\": {\"by\": \"last\", \"test\": 0.2}}", five, NULL, NULL, "val and test are whole numbers of interactions");
    refuse("{\"split\": {\"train\": 0.5, \"test\": 0.6}}", five, NULL, NULL, "must sum to 1; these sum to 1.1");
    refuse("{\"split\": {\"by\": \"time\", \"train\": 0.5, \"test\": 0.5}}", five, NULL, NULL, "by = \"time\" needs a column time");
    refuse("{\"least_rating\": 3}", five, NULL, NULL, "least_rating needs a column rating");
    refuse("{\"rating\": \"item\"}", five, NULL, NULL, "column \"item\" can't be two of user, item, rating and time");
}
TEST("a split that leaves a part empty is refused")
{
    refuse("{\"split\": {\"by\": \"last\", \"test\": 5}}", five, NULL, NULL, "no interaction is left for test: no user has enough of them");
}
