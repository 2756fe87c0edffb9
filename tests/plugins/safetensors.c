/* safetensors.c: hostile files are refused, and what is written is aligned, sorted and the same each time. */
#include "lib/safetensors.h"
#include "test.h"

#include <stdio.h>
#include <string.h>

/* Parses a file made of this header and as many bytes of data. */
static int parse_with(const char *header, size_t data, struct mbl_safetensors *out, struct mbl_error *e) {
    static unsigned char bytes[4096];
    size_t n = strlen(header);
    memset(bytes, 0, sizeof bytes);
    for (int i = 0; i < 8; i++) bytes[i] = (unsigned char)((uint64_t)n >> 8 * i);
    memcpy(bytes + 8, header, n);
    return mbl_safetensors_parse(bytes, 8 + n + data, "x", out, e);
}

TEST("what the format forbids is refused, and the message names the tensor") {
    static const struct {
        const char *header;
        size_t data;
        const char *message;
    } cases[] = {
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, "tensor a: its shape takes 8 bytes but data_offsets say 4"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 3, "leave the file's 3 bytes"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 5, "1 bytes behind the last tensor"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}", 2, "a hole of 1 bytes before tensor a"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}", 3,
         "tensors a and b overlap"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
         "the key \"a\" twice"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,0]}}", 0, "its shape overflows"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[0,4611686018427387904,4],\"data_offsets\":[0,0]}}", 0, "its shape overflows"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, "dimension 0 is no whole number"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]}}", 4, "dimension 0 is no whole number"},
        {"{\"a\":{\"dtype\":\"F99\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "unknown dtype F99"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,0]}}", 1, "leave the file"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, "data_offsets must be two"},
        {"{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, "tensor a has no shape"},
        {"{\"a\":7}", 1, "tensor a has no dtype"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1, "has 9 dimensions"},
        {"{\"__metadata__\":{\"a\":1}}", 0, "only strings are allowed"},
        {"{\"__metadata__\":[]}", 0, "a table expected"},
        {" {}", 0, "the header must begin with {"},
        {"[]", 0, "the header must begin with {"},
        {"{", 0, "safetensors header"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mbl_safetensors s;
        struct mbl_error e;
        CHECKF(parse_with(cases[i].header, cases[i].data, &s, &e), "%s was taken", cases[i].header);
        CHECK_CONTAINS(e.text, cases[i].message);
    }
}

TEST("a header's length is not believed") {
    static const unsigned char huge[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, '{', '}'},
                               more[] = {3, 0, 0, 0, 0, 0, 0, 0, '{', '}'};
    struct mbl_safetensors s;
    struct mbl_error e;
    CHECK(mbl_safetensors_parse(huge, sizeof huge, "x", &s, &e));
    CHECK_CONTAINS(e.text, "is no safetensors file, or was cut off");
    CHECK(mbl_safetensors_parse(more, sizeof more, "x", &s, &e));
    CHECK(mbl_safetensors_parse(huge, 7, "x", &s, &e));
    CHECK_CONTAINS(e.text, "it has 7 bytes");
}

TEST("empty tensors, scalars and padding are fine") {
    struct mbl_safetensors s;
    struct mbl_error e;
    int failed = parse_with("{\"e\":{\"dtype\":\"F32\",\"shape\":[0,3],\"data_offsets\":[4,4]},\"s\":{\"dtype\":\"F32\",\"shape\":[],"
                            "\"data_offsets\":[0,4]}}   ",
                            4, &s, &e);
    CHECKF(!failed, "%s", e.text);
    CHECK_EQ(mbl_tensor_count(mbl_safetensors_find(&s, "s")), 1);
    CHECK_EQ(mbl_tensor_count(mbl_safetensors_find(&s, "e")), 0);
    CHECK(mbl_safetensors_find(&s, "x") == NULL);
    mbl_safetensors_close(&s);
}

TEST("what is written is read back, each tensor aligned to its width, whatever the order in which it was given") {
    const uint8_t bytes[] = {1, 2, 3};
    const float floats[] = {1.5f, -2};
    const int64_t longs[] = {INT64_MIN};
    struct mbl_tensor tensors[] = {{.name = "b", .type = MBL_U8, .rank = 1, .shape = {3}, .data = bytes},
                                   {.name = "f\"\n", .type = MBL_F32, .rank = 2, .shape = {1, 2}, .data = floats},
                                   {.name = "l", .type = MBL_I64, .rank = 0, .data = longs}};
    struct mbl_tensor turned[] = {tensors[2], tensors[0], tensors[1]};
    struct mbl_arena a = {0};
    struct mbl_json *metadata = mbl_json_table(&a);
    struct mbl_error e;
    char path[512], other[512];
    snprintf(path, sizeof path, "%s/a", test_folder());
    snprintf(other, sizeof other, "%s/b", test_folder());
    mbl_json_set(&a, metadata, "z", mbl_json_string(&a, "1"));
    mbl_json_set(&a, metadata, "format", mbl_json_string(&a, "x"));
    CHECKF(!mbl_safetensors_save(path, tensors, 3, metadata, &e), "%s", e.text);
    CHECK(!mbl_safetensors_save(other, turned, 3, metadata, &e));
    struct mbl_buf one = {0}, two = {0};
    CHECK(!mbl_file_read(path, 4096, &one, &e) && !mbl_file_read(other, 4096, &two, &e));
    CHECK(one.len == two.len && !memcmp(one.data, two.data, one.len));
    CHECK_EQ((unsigned char)one.data[0] % 8, 0);
    struct mbl_safetensors s;
    CHECKF(!mbl_safetensors_open(path, &s, &e), "%s", e.text);
    CHECK_EQ(s.count, 3);
    CHECK_MEM(mbl_safetensors_find(&s, "b")->data, bytes, sizeof bytes);
    CHECK_MEM(mbl_safetensors_find(&s, "f\"\n")->data, floats, sizeof floats);
    CHECK_EQ((uintptr_t)mbl_safetensors_find(&s, "l")->data % 8, 0);
    CHECK_STR(mbl_json_get_string(s.metadata, "format"), "x");
    mbl_safetensors_close(&s);
    mbl_buf_free(&one);
    mbl_buf_free(&two);
    mbl_arena_free(&a);
}

TEST("a stream that is not filled leaves no file, and one that overflows says by how much") {
    struct mbl_tensor t = {.name = "t", .type = MBL_F32, .rank = 1, .shape = {2}};
    struct mbl_safetensors_writer *w;
    struct mbl_error e;
    char path[512];
    const float v[3] = {1, 2, 3};
    snprintf(path, sizeof path, "%s/x", test_folder());
    CHECK(!mbl_safetensors_create(path, &t, 1, NULL, &w, &e));
    CHECK(!mbl_safetensors_append(w, 0, v, 4, &e));
    CHECK(mbl_safetensors_append(w, 0, v, 12, &e));
    CHECK_CONTAINS(e.text, "takes 8 bytes; 8 more than that");
    CHECK(mbl_safetensors_commit(w, &e));
    CHECK_CONTAINS(e.text, "only 4 were given");
    CHECK(fopen(path, "r") == NULL);
}

TEST("elements of every type become float32") {
    static const struct {
        enum mbl_dtype type;
        unsigned char bytes[8];
        float value;
    } cases[] = {{MBL_U8, {200}, 200},
                 {MBL_I8, {0xff}, -1},
                 {MBL_BOOL, {1}, 1},
                 {MBL_I16, {0xfe, 0xff}, -2},
                 {MBL_U16, {0xfe, 0xff}, 65534},
                 {MBL_I32, {0xff, 0xff, 0xff, 0xff}, -1},
                 {MBL_U32, {0, 0, 0, 0x80}, 2147483648.0f},
                 {MBL_F16, {0, 0x3c}, 1},
                 {MBL_F16, {1, 0}, 0x1p-24f},
                 {MBL_F16, {0xff, 0x7b}, 65504},
                 {MBL_BF16, {0x80, 0xbf}, -1},
                 {MBL_F32, {0, 0, 0x20, 0x41}, 10},
                 {MBL_F64, {0, 0, 0, 0, 0, 0, 0xf8, 0x3f}, 1.5f},
                 {MBL_I64, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, -1},
                 {MBL_U64, {0, 1}, 256}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        unsigned char shifted[9]; /* misaligned */
        float out;
        struct mbl_error e;
        memcpy(shifted + 1, cases[i].bytes, 8);
        struct mbl_tensor t = {.name = "t", .type = cases[i].type, .rank = 0, .data = shifted + 1};
        CHECK(!mbl_tensor_floats(&t, &out, &e));
        CHECKF(out == cases[i].value, "%s: %g, not %g", mbl_dtype_name(t.type), (double)out, (double)cases[i].value);
    }
}
