/* Figures against values that scikit-learn 1.9 gave for the same answers, and by hand. */
#include "lib/metrics.h"
#include "test.h"

#include <math.h>
#include <string.h>

static const float logits[12][3] = {{-1.60f, -2.65f, -0.50f}, {0.84f, 2.27f, 0.22f},   {-1.11f, -1.57f, 1.50f}, {3.27f, 0.55f, -2.47f},
                                    {-1.92f, 3.20f, 0.41f},   {-3.46f, -0.17f, -2.33f}, {-1.26f, -0.98f, -1.43f}, {1.11f, -0.13f, -1.18f},
                                    {0.82f, 1.66f, -3.29f},   {-0.51f, -1.96f, -0.35f}, {-2.58f, 0.04f, -0.08f}, {-0.61f, -2.10f, -0.79f}};
static const int32_t labels[12] = {0, 1, 2, 0, 1, 2, 0, 0, 1, 0, 2, 0};

static struct mbl_scores score(enum mbl_problem problem, size_t classes, int64_t rows, const float *outputs, const int32_t *of,
                               const float *targets) {
    static struct mbl_arena arena;
    struct mbl_scores s;
    struct mbl_error e;
    if (mbl_score(problem, classes, rows, outputs, of, targets, &arena, &s, &e)) FAIL("%s", e.text);
    return s;
}

TEST("the figures of three classes are scikit-learn's")
{
    struct mbl_scores s = score(MBL_CLASSES, 3, 12, &logits[0][0], labels, NULL);
    static const int64_t confusion[9] = {3, 1, 2, 0, 3, 0, 0, 2, 1};
    CHECK_MEM(s.confusion, confusion, sizeof confusion);
    CHECK_NEAR(s.accuracy, 0.5833333333333334, 1e-15);
    CHECK_NEAR(s.log_loss, 0.7143975604467699, 1e-12);
    CHECK_NEAR(s.ece, 0.16282735530022344, 1e-12);
    CHECK_NEAR(s.precision_macro, 0.611111111111111, 1e-12);
    CHECK_NEAR(s.recall_macro, 0.611111111111111, 1e-12);
    CHECK_NEAR(s.f1_macro, 0.5555555555555555, 1e-12);
    CHECK_NEAR(s.precision_weighted, 0.7083333333333334, 1e-12);
    CHECK_NEAR(s.recall_weighted, 0.5833333333333334, 1e-12);
    CHECK_NEAR(s.f1_weighted, 0.5833333333333334, 1e-12);
    CHECK_NEAR(s.f1_micro, 0.5833333333333334, 1e-12);
    CHECK_NEAR(s.classes[0].precision, 1, 0);
    CHECK_NEAR(s.classes[0].recall, 0.5, 0);
    CHECK_NEAR(s.classes[2].f1, 1 / 3.0, 1e-15);
    CHECK_EQ(s.classes[0].support, 6);
}

TEST("the figures of two classes by one logit are scikit-learn's, equal scores included")
{
    static const float z[10] = {-2, -1, 0.5f, 0.5f, 1, 3, -0.25f, 0.5f, 2, -4};
    static const int32_t y[10] = {0, 0, 1, 0, 1, 1, 1, 0, 0, 0};
    struct mbl_scores s = score(MBL_BINARY, 2, 10, z, y, NULL);
    CHECK_NEAR(s.auc, 0.75, 1e-15);
    CHECK_NEAR(s.log_loss, 0.6195287049033105, 1e-12);
    CHECK_NEAR(s.accuracy, 0.6, 1e-15);
    CHECK_NEAR(s.classes[1].f1, 0.6, 1e-15);
    CHECK_NEAR(s.recall_macro, 0.625, 1e-15);
}

TEST("the figures of regression are scikit-learn's")
{
    static const float targets[5] = {1, 2.5f, -3, 4, 0.5f}, answers[5] = {1.5f, 2, -2, 3.5f, 1};
    struct mbl_scores s = score(MBL_VALUES, 0, 5, answers, NULL, targets);
    CHECK_NEAR(s.mse, 0.4, 1e-15);
    CHECK_NEAR(s.mae, 0.6, 1e-15);
    CHECK_NEAR(s.rmse, sqrt(0.4), 1e-15);
    CHECK_NEAR(s.r2, 0.9272727370262146, 1e-7);
}

TEST("a class that is never there or never guessed counts as 0, and the rest is right")
{
    static const float z[2][3] = {{5, 0, 0}, {0, 5, 0}};
    static const int32_t y[2] = {0, 0};
    struct mbl_scores s = score(MBL_CLASSES, 3, 2, &z[0][0], y, NULL);
    CHECK_NEAR(s.classes[2].f1, 0, 0);
    CHECK_NEAR(s.classes[1].recall, 0, 0);
    CHECK_NEAR(s.classes[0].precision, 1, 0);
    CHECK_NEAR(s.recall_macro, 0.5 / 3, 1e-15);
}

TEST("logits of any size give a finite loss, and confident errors a large one")
{
    static const float z[2][2] = {{1e30f, -1e30f}, {-3e38f, 3e38f}}, one[2] = {3e38f, -3e38f};
    static const int32_t right[2] = {0, 1}, wrong[2] = {1, 0};
    CHECK_NEAR(score(MBL_CLASSES, 2, 2, &z[0][0], right, NULL).log_loss, 0, 0);
    CHECK(score(MBL_CLASSES, 2, 2, &z[0][0], wrong, NULL).log_loss > 1e30);
    CHECK(isfinite(score(MBL_BINARY, 2, 2, one, wrong, NULL).log_loss));
}

TEST("an answer that is no number is an error that names the row")
{
    static const float z[2][2] = {{1, 2}, {NAN, 1}};
    static const int32_t y[2] = {0, 1};
    static struct mbl_arena arena;
    struct mbl_scores s;
    struct mbl_error e;
    CHECK_EQ(mbl_score(MBL_CLASSES, 2, 2, &z[0][0], y, NULL, &arena, &s, &e), -1);
    CHECK_CONTAINS(e.text, "row 2");
}

TEST("figures that don't exist are left out: no area under the curve with one class, no R² of a constant")
{
    static const float z[3] = {1, 2, 3}, same[3] = {4, 4, 4};
    static const int32_t y[3] = {1, 1, 1};
    static struct mbl_arena arena;
    static const char *const classes[] = {"no", "yes"};
    struct mbl_schema schema = {.classes = classes, .class_count = 2};
    struct mbl_scores s = score(MBL_BINARY, 2, 3, z, y, NULL);
    CHECK(isnan(s.auc));
    const struct mbl_json *t = mbl_scores_json(&s, &schema, &arena);
    CHECK(!mbl_json_get(t, "auc"));
    CHECK(mbl_json_get(t, "accuracy") != NULL);
    CHECK(mbl_json_get(mbl_json_get(t, "per_class"), "yes") != NULL);
    s = score(MBL_VALUES, 0, 3, z, NULL, same);
    CHECK(!mbl_json_get(mbl_scores_json(&s, &schema, &arena), "r2"));
}

TEST("the brief figures of an epoch are the full ones")
{
    double loss, right;
    struct mbl_scores s = score(MBL_CLASSES, 3, 12, &logits[0][0], labels, NULL);
    mbl_score_brief(MBL_CLASSES, 3, 12, &logits[0][0], labels, NULL, &loss, &right);
    CHECK_NEAR(loss, s.log_loss, 1e-15);
    CHECK_NEAR(right, s.accuracy, 1e-15);
}
