/* dataset.c: the step `dataset`, run on small files that a test writes. */
#include "fake_host.h"
#include "lib/dataset.h"

#include <math.h>
#include <stdlib.h>
#include <sys/wait.h>

/* A file in the test's folder; the string lasts for the test. */
static const char *path_of(const char *name) {
    static char paths[100][512];
    static int next;
    char *path = paths[next++ % 100];
    snprintf(path, sizeof paths[0], "%s/%s", test_folder(), name);
    return path;
}

static const char *write_bytes(const char *name, const void *bytes, size_t n) {
    const char *path = path_of(name);
    FILE *f = fopen(path, "wb");
    CHECK(f && fwrite(bytes, 1, n, f) == n && !fclose(f));
    return path;
}

static const char *write_text(const char *name, const char *text) {
    return write_bytes(name, text, strlen(text));
}

/* Runs the step on one file without a split and opens what it made. */
static struct fake fake;
static struct mbl_dataset data;

static void open_fake(const char *params) {
    mbl_arena_free(&fake.arena);
    fake_open(&fake, "dataset", params);
}

static int make(const char *source, const char *params) {
    open_fake(params);
    fake_path(&fake, "from", source);
    if (strstr(params, "split")) {
        fake_path(&fake, "train", path_of("train"));
        fake_path(&fake, "val", path_of("val"));
        fake_path(&fake, "test", path_of("test"));
    } else {
        fake_path(&fake, "all", path_of("all"));
    }
    fake_path(&fake, "schema", path_of("schema.json"));
    return fake_run(&fake);
}

static void open_part(const char *part) {
    struct mbl_error e;
    mbl_dataset_close(&data);
    if (mbl_dataset_open(path_of(part), &data, &e)) FAIL("%s", e.text);
}

static void good(const char *source, const char *params) {
    CHECKF(make(source, params) == MB_OK, "the step failed: %s", fake.message);
    open_part(strstr(params, "split") ? "train" : "all");
}

static void bad(const char *source, const char *params, const char *message) {
    CHECK(make(source, params) != MB_OK);
    CHECK_CONTAINS(fake.message, message);
}

/* Two files, without a split. */
static void make_of_two(const char *a, const char *b) {
    struct mbl_error e;
    open_fake("{}");
    fake_path(&fake, "from", a);
    fake_path(&fake, "from", b);
    fake_path(&fake, "all", path_of("all"));
    CHECKF(fake_run(&fake) == MB_OK, "%s", fake.message);
    mbl_dataset_close(&data);
    CHECKF(!mbl_dataset_open(path_of("all"), &data, &e), "%s", e.text);
}

TEST("a table becomes numbers, one-hot categories and classes in order, each row with its line") {
    good(write_text("x.csv", "age,colour,kind\n1,red,10\n2.5,blue,9\n\n3,red,10\n"), "{\"label\": \"kind\", \"task\": \"classification\"}");
    CHECK_EQ(data.rows, 3);
    CHECK_EQ(data.schema.features, 3);
    CHECK_STR(data.schema.feature_names[1], "colour=blue");
    CHECK_STR(data.schema.classes[0], "9");
    CHECK_STR(data.schema.classes[1], "10");
    const float expected[] = {1, 0, 1, 2.5f, 1, 0, 3, 0, 1};
    CHECK_MEM(data.features, expected, sizeof expected);
    const int32_t labels[] = {1, 0, 1};
    CHECK_MEM(data.labels, labels, sizeof labels);
    CHECK_EQ(data.lines[2], 5);
    CHECK_STR(data.part, "all");
}

TEST("a ragged row is refused with file, line, and how many fields were found and expected") {
    bad(write_text("x.csv", "a,b,c\n1,2,3\n4,5\n"), "{}", "x.csv:3: ragged row: found 2 fields, expected 3");
}

TEST("a cell that is no number in a column of numbers is named with its line") {
    char text[400] = "a,b\n";
    for (int i = 0; i < 20; i++) sprintf(text + strlen(text), "%d,%s\n", i, i == 11 ? "1o" : "10");
    bad(write_text("x.csv", text), "{}", "x.csv:13: column b holds numbers, but \"1o\" is none");
}

TEST("an unknown label lists the columns that there are") {
    bad(write_text("x.csv", "a,b\n1,2\n"), "{\"label\": \"c\"}", "there is no column \"c\"; there are a, b");
}

TEST("a file without a header has its columns by number") {
    good(write_text("x.csv", "1;2;0\n3;4;1\n5;6;0\n7;8;1\n9;9;0\n2;2;1\n0;0;0\n1;1;1\n2;3;0\n5;5;1\n"), "{\"label\": -1}");
    CHECK_EQ(data.schema.features, 2);
    CHECK_STR(data.schema.feature_names[1], "c2");
    CHECK_EQ(data.schema.class_count, 2);
}

TEST("missing values fail the step and the rows are listed, ten of them and a count") {
    char text[800] = "a,b\n";
    for (int i = 0; i < 12; i++) strcat(text, "1,NA\n");
    strcat(text, "1,2\n");
    bad(write_text("x.csv", text), "{}", "broken by 12 rows, the first ten are");
    CHECK_CONTAINS(fake.message, "x.csv:11: b is missing");
    CHECK(!strstr(fake.message, "x.csv:12:"));
}

TEST("missing values are dropped, kept as NaN, or filled in with the training part's mean") {
    const char *x = write_text("x.csv", "a,b,c\n1,2,u\n?,4,v\n3,?,u\n4,6,?\n5,8,u\n");
    good(x, "{\"clean\": {\"missing\": \"drop\", \"na\": [\"?\"]}}");
    CHECK_EQ(data.rows, 2);
    CHECK_EQ(data.schema.features, 3); /* v is in no row that is left */
    CHECK_EQ(fake_value(&fake, "dropped"), 3);
    good(x, "{\"clean\": {\"missing\": \"keep\", \"na\": [\"?\"]}}");
    CHECK(isnan(data.features[4]));
    good(x, "{\"clean\": {\"missing\": \"mean\", \"na\": [\"?\"]}}");
    CHECK_NEAR(data.features[4], 3.25, 1e-6);
    CHECK_NEAR(data.features[2 * 4 + 1], 5, 1e-6);
    CHECK_EQ(data.features[3 * 4 + 2], 1); /* u, the most frequent */
}

TEST("copies of rows are found whatever way their numbers are written, and dropped or refused") {
    const char *x = write_text("x.csv", "a,b\n1,x\n1.0,x\n1,y\n01,x\n0,y\n-0,y\n");
    good(x, "{\"clean\": {\"duplicates\": \"drop\"}}");
    CHECK_EQ(data.rows, 3);
    bad(x, "{\"clean\": {\"duplicates\": \"fail\"}}", "x.csv:3: a copy of line 2");
}

TEST("every broken expectation is told with the rows that broke it") {
    const char *x = write_text("x.csv", "id,v,kind\n1,5,a\n2,17,b\n2,-1,c\n");
    bad(x,
        "{\"label\": \"kind\", \"expect\": {\"rows\": {\"min\": 10}, \"range\": [0, 16], \"classes\": 2, \"unique\": [\"id\"], \"values\": "
        "{\"kind\": [\"a\", "
        "\"b\"]}}}",
        "expect.rows: 3 rows are left after cleaning; at least 10 are expected");
    CHECK_CONTAINS(fake.message, "x.csv:3: v is 17, not from 0 to 16");
    CHECK_CONTAINS(fake.message, "x.csv:4: v is -1, not from 0 to 16");
    CHECK_CONTAINS(fake.message, "expect.classes: found 3 (a, b, c); 2 are expected");
    CHECK_CONTAINS(fake.message, "x.csv:4: id is 2, as in line 3");
    CHECK_CONTAINS(fake.message, "x.csv:4: kind is \"c\"");
}

TEST("expectations that hold let the step pass, with bounds compared as they are stored") {
    good(write_text("x.csv", "id,v,kind\n1,0.1,a\n2,1,b\n"),
         "{\"label\": \"kind\", \"expect\": {\"rows\": {\"min\": 2, \"max\": 2}, \"ranges\": {\"v\": [0.1, 1]}, \"classes\": [\"a\", "
         "\"b\"], \"columns\": [\"id\", "
         "\"v\", \"kind\"], \"unique\": [\"id\"], \"missing\": {\"max\": 0}, \"features\": 2, \"balance\": 1}}");
}

/* n rows, row i in class i % classes with the feature i. */
static const char *classes_file(int n, int classes) {
    const char *path = path_of("classes.csv");
    FILE *f = fopen(path, "w");
    CHECK(f != NULL);
    fprintf(f, "v,kind\n");
    for (int i = 0; i < n; i++) fprintf(f, "%d,k%d\n", i, i % classes);
    CHECK(!fclose(f));
    return path;
}

TEST("a stratified split gives each part its share of each class and each row to one part") {
    good(classes_file(1403, 10),
         "{\"label\": \"kind\", \"split\": {\"train\": 0.8, \"val\": 0.1, \"test\": 0.1, \"stratify\": true, \"seed\": 7}}");
    static const char *const parts[] = {"train", "val", "test"};
    static const double shares[] = {0.8, 0.1, 0.1};
    char seen[1403] = {0};
    for (int p = 0; p < 3; p++) {
        int counts[10] = {0};
        open_part(parts[p]);
        CHECK_STR(data.part, parts[p]);
        CHECK_NEAR((double)data.rows, 1403 * shares[p], 1.01);
        for (int64_t i = 0; i < data.rows; i++) {
            counts[data.labels[i]]++;
            CHECK_EQ(seen[(int)data.features[i]]++, 0);
        }
        for (int k = 0; k < 10; k++) CHECK_NEAR(counts[k], (1403 / 10 + (k < 3)) * shares[p], 1);
    }
}

TEST("the same seed gives the same bytes and another one another split") {
    const char *x = classes_file(200, 4);
    struct mbl_buf a = {0}, b = {0};
    struct mbl_error e;
    const char *one = "{\"label\": \"kind\", \"split\": {\"train\": 0.5, \"val\": 0.25, \"test\": 0.25, \"stratify\": true, \"seed\": 1}}";
    good(x, one);
    CHECK(!mbl_file_read(path_of("train"), 1 << 20, &a, &e));
    good(x, one);
    CHECK(!mbl_file_read(path_of("train"), 1 << 20, &b, &e));
    CHECK(a.len == b.len && !memcmp(a.data, b.data, a.len));
    good(x, "{\"label\": \"kind\", \"split\": {\"train\": 0.5, \"val\": 0.25, \"test\": 0.25, \"stratify\": true, \"seed\": 2}}");
    CHECK(!mbl_file_read(path_of("train"), 1 << 20, &b, &e));
    CHECK(a.len != b.len || memcmp(a.data, b.data, a.len));
    mbl_buf_free(&a);
    mbl_buf_free(&b);
}

TEST("many small classes do not starve a part") {
    good(classes_file(1400, 100), "{\"label\": \"kind\", \"split\": {\"train\": 0.8, \"val\": 0.1, \"test\": 0.1, \"stratify\": true}}");
    open_part("val");
    CHECK_NEAR((double)data.rows, 140, 1);
    open_part("test");
    CHECK_NEAR((double)data.rows, 140, 1);
}

TEST("a class with fewer rows than parts stops a stratified split") {
    bad(write_text("x.csv", "v,kind\n1,a\n2,a\n3,a\n4,a\n5,b\n"),
        "{\"label\": \"kind\", \"split\": {\"train\": 0.4, \"val\": 0.3, \"test\": 0.3, \"stratify\": true}}",
        "class \"b\" has 1 row, fewer than the 3 parts");
}

TEST("shares that do not sum to 1 are refused before anything is read") {
    bad(path_of("absent"), "{\"split\": {\"train\": 0.8, \"val\": 0.1, \"test\": 0.2}}", "must sum to 1; these sum to 1.1");
}

TEST("rows of a group stay together and the group is no feature") {
    const char *path = path_of("groups.csv");
    FILE *f = fopen(path, "w");
    CHECK(f != NULL);
    fprintf(f, "v,who\n");
    for (int i = 0; i < 300; i++) fprintf(f, "%d,p%d\n", i, i % 30);
    CHECK(!fclose(f));
    good(path, "{\"split\": {\"train\": 0.6, \"val\": 0.2, \"test\": 0.2, \"group\": \"who\"}}");
    static const char *const parts[] = {"train", "val", "test"};
    int place[30], rows[3] = {0};
    memset(place, -1, sizeof place);
    for (int p = 0; p < 3; p++) {
        open_part(parts[p]);
        CHECK_EQ(data.schema.features, 1);
        rows[p] = (int)data.rows;
        for (int64_t i = 0; i < data.rows; i++) {
            int who = (int)data.features[i] % 30;
            CHECK(place[who] == -1 || place[who] == p);
            place[who] = p;
        }
    }
    CHECK_EQ(rows[0], 180);
    CHECK_EQ(rows[1], 60);
}

TEST("the scaling is fitted on the training part alone") {
    good(classes_file(100, 2), "{\"label\": \"kind\", \"split\": {\"train\": 0.5, \"val\": 0.25, \"test\": 0.25, \"seed\": 3}}");
    double mean = 0, square = 0;
    for (int64_t i = 0; i < data.rows; i++) mean += (double)data.features[i] / (double)data.rows;
    for (int64_t i = 0; i < data.rows; i++) square += pow((double)data.features[i] - mean, 2) / (double)data.rows;
    CHECK_NEAR(data.schema.offset[0], mean, 1e-4);
    CHECK_NEAR(data.schema.factor[0], 1 / sqrt(square), 1e-6);
    CHECK(fabs(mean - 49.5) > 0.01);
    open_part("test");
    CHECK_NEAR(data.schema.offset[0], mean, 1e-4);
    good(classes_file(10, 2), "{\"label\": \"kind\", \"scaling\": \"minmax\"}");
    CHECK_NEAR(data.schema.offset[0], 0, 0);
    CHECK_NEAR(data.schema.factor[0], 1 / 9.0, 1e-7);
}

TEST("labels that are many different numbers are targets of a regression, with mean and deviation kept") {
    good(write_text("x.csv", "a,y\n1,1.5\n2,2.5\n3,4\n"), "{\"label\": \"y\"}");
    CHECK_EQ(data.schema.task, MBL_REGRESSION);
    CHECK_NEAR(data.targets[2], 4, 0);
    CHECK_NEAR(data.schema.target_mean, 8 / 3.0, 1e-9);
}

TEST("images keep their shape, are stored as bytes and scaled by channel") {
    good(write_text("x.csv", "a,b,c,d,y\n0,1,2,3,u\n4,5,6,255,v\n"), "{\"label\": \"y\", \"shape\": [2, 2]}");
    CHECK_EQ(data.schema.shape_rank, 3);
    CHECK_EQ(data.schema.shape[2], 1);
    CHECK_EQ(mbl_safetensors_find(&data.file, "features")->type, MBL_U8);
    CHECK_NEAR(data.features[7], 255, 0);
    CHECK_NEAR(data.schema.offset[3], 276 / 8.0, 1e-4);
    CHECK_NEAR(data.schema.offset[0], data.schema.offset[3], 0);
    bad(write_text("x.csv", "a,b,c,y\n0,1,2,u\n"), "{\"label\": \"y\", \"shape\": [2, 2]}", "takes 4 features; there are 3");
}

TEST("JSON Lines are a table whose lines need not have all keys, and hold text") {
    good(write_text("x.jsonl",
                    "{\"text\": \"h\\u00e9llo, world\", \"n\": 1, \"y\": \"no\"}\n\n{\"y\": \"yes\", \"text\": \"\", \"n\": 2.5}\n"
                    "{\"y\": \"yes\", \"text\": \"x\", \"n\": null}\n"),
         "{\"label\": \"y\", \"text\": [\"text\"], \"clean\": {\"missing\": \"keep\"}}");
    CHECK_EQ(data.rows, 3);
    CHECK_EQ(data.text_count, 1);
    CHECK_EQ(data.texts[0].offsets[1], 13);
    CHECK_MEM(data.texts[0].bytes, "h\xc3\xa9llo, world", 13);
    CHECK_EQ(data.texts[0].offsets[2], 13);
    CHECK(isnan(data.features[2]));
    CHECK_EQ(data.lines[1], 3);
    bad(write_text("x.jsonl", "{\"a\": 1}\n{\"a\": [1]}\n"), "{}", "x.jsonl:2: \"a\" is a list");
    bad(write_text("x.jsonl", "{\"a\": 1}\n{\"a\": 1,}\n"), "{}", "x.jsonl:2");
}

TEST("plain text is a row a line") {
    good(write_text("x.txt", "one\r\n\ntwo words"), "{\"format\": \"text\"}");
    CHECK_EQ(data.rows, 2);
    CHECK_EQ(data.schema.features, 0);
    CHECK_MEM(data.texts[0].bytes, "onetwo words", 12);
    CHECK_EQ(data.lines[1], 3);
}

TEST("IDX images and labels are read in whichever order they are given") {
    static const unsigned char images[] = {0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 1, 2, 3, 4, 5, 255};
    static const unsigned char labels[] = {0, 0, 8, 1, 0, 0, 0, 3, 7, 3, 7};
    const char *x = write_bytes("images", images, sizeof images), *y = write_bytes("labels", labels, sizeof labels);
    for (int turn = 0; turn < 2; turn++) {
        struct mbl_error e;
        open_fake("{\"task\": \"classification\"}");
        fake_path(&fake, "from", turn ? x : y);
        fake_path(&fake, "from", turn ? y : x);
        fake_path(&fake, "all", path_of("all"));
        CHECKF(fake_run(&fake) == MB_OK, "%s", fake.message);
        mbl_dataset_close(&data);
        CHECKF(!mbl_dataset_open(path_of("all"), &data, &e), "%s", e.text);
        CHECK_EQ(data.schema.shape[0], 1);
        CHECK_EQ(data.schema.shape[1], 2);
        CHECK_NEAR(data.features[5], 255, 0);
        CHECK_STR(data.schema.classes[1], "7");
        CHECK_EQ(data.labels[1], 0);
    }
    bad(write_bytes("cut", images, sizeof images - 1), "{}", "its header speaks of 6 bytes of data; 5 are there");
}

TEST("an NPY matrix has columns that the rule can name") {
    char bytes[128] = "\x93NUMPY\x01\x00\x46\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
    memset(bytes + 10 + 59, ' ', 0x46 - 59);
    size_t header = 10 + 0x46;
    const float values[] = {1.5f, 2, 0.25f, 3.5f, 4, 0.75f};
    memcpy(bytes + header, values, sizeof values);
    for (size_t i = 10; i < header; i++)
        if (!bytes[i]) bytes[i] = ' ';
    good(write_bytes("x.npy", bytes, header + sizeof values), "{\"label\": -1, \"task\": \"regression\"}");
    CHECK_EQ(data.schema.features, 2);
    CHECK_NEAR(data.features[2], 3.5, 0);
    CHECK_NEAR(data.targets[1], 0.75, 0);
}

TEST("compressed files are read, and truncated ones are an error and leave no output") {
    const char *plain = classes_file(5000, 5);
    char command[1200];
    static const char *const packers[] = {"gzip", "xz", "zstd", "bzip2"};
    for (size_t i = 0; i < 4; i++) {
        const char *packed = path_of("x.packed");
        snprintf(command, sizeof command, "command -v %s >/dev/null && %s -c '%s' >'%s'", packers[i], packers[i], plain, packed);
        if (system(command)) continue;
        good(packed, "{\"label\": \"kind\"}");
        CHECK_EQ(data.rows, 5000);
        remove(path_of("all"));
        struct mbl_buf bytes = {0};
        struct mbl_error e;
        CHECK(!mbl_file_read(packed, 1 << 20, &bytes, &e));
        bad(write_bytes("cut", bytes.data, bytes.len / 2), "{\"label\": \"kind\"}", "cut");
        mbl_buf_free(&bytes);
        CHECK(fopen(path_of("all"), "r") == NULL);
    }
}

TEST("files of one table must have the same columns, and lines are told with their file") {
    const char *a = write_text("a.csv", "x,y\n1,2\n"), *b = write_text("b.csv", "y,x\n3,4\n5,z\n"), *c = write_text("c.csv", "x,z\n1,2\n");
    open_fake("{\"clean\": {\"na\": [\"z\"], \"missing\": \"keep\"}}");
    fake_path(&fake, "from", a);
    fake_path(&fake, "from", b);
    fake_path(&fake, "all", path_of("all"));
    CHECKF(fake_run(&fake) == MB_OK, "%s", fake.message);
    open_part("all");
    CHECK_EQ(data.rows, 3);
    CHECK_NEAR(data.features[2], 4, 0);
    open_fake("{\"clean\": {\"na\": [\"z\"]}}");
    fake_path(&fake, "from", a);
    fake_path(&fake, "from", b);
    fake_path(&fake, "all", path_of("all"));
    CHECK(fake_run(&fake) != MB_OK);
    CHECK_CONTAINS(fake.message, "b.csv:3: x is missing");
    open_fake("{}");
    fake_path(&fake, "from", a);
    fake_path(&fake, "from", c);
    CHECK(fake_run(&fake) != MB_OK);
    CHECK_CONTAINS(fake.message, "c.csv has other columns than");
}

TEST("the digits of the example are 1797 images of ten classes in even parts") {
    good(test_source("examples/digits/data/optdigits.csv.gz"),
         "{\"label\": \"label\", \"shape\": [8, 8, 1], \"clean\": {\"duplicates\": \"drop\", \"missing\": \"drop\"}, \"expect\": "
         "{\"rows\": {\"min\": 1500}, \"classes\": "
         "10, \"range\": [0, 16]}, \"split\": {\"train\": 0.8, \"val\": 0.1, \"test\": 0.1, \"stratify\": true, \"seed\": 7}}");
    CHECK_EQ(data.schema.class_count, 10);
    CHECK_STR(data.schema.classes[9], "9");
    CHECK_EQ(data.schema.features, 64);
    CHECK_NEAR((double)data.rows, 1438, 1);
    CHECK_EQ(fake_value(&fake, "rows"), 1797);
}

TEST("MNIST's test images are read as they are published") {
    make_of_two(test_shared("data/mnist-t10k-images-idx3-ubyte.gz"), test_shared("data/mnist-t10k-labels-idx1-ubyte.gz"));
    CHECK_EQ(data.rows, 10000);
    CHECK_EQ(data.schema.shape[0], 28);
    CHECK_EQ(data.schema.class_count, 10);
    CHECK_EQ(data.labels[0], 7);
    CHECK_NEAR(data.schema.offset[0], 33.79, 0.01); /* 0.1325 of 255, the test set's published mean */
}

TEST("the Adult census is a table of numbers and categories with its 24 copies dropped and its question marks filled in") {
    good(test_shared("data/adult.csv"), "{\"label\": \"income\", \"clean\": {\"na\": [\"?\"], \"missing\": \"mean\", \"duplicates\": "
                                        "\"drop\"}, \"expect\": {\"features\": 105}}");
    CHECK_EQ(data.rows, 32561 - 24);
    CHECK_STR(data.schema.classes[1], ">50K");
    CHECK_NEAR(data.features[0], 39, 0);
}
