/* Experts that several ranks hold: which rows go to which copy, and what is no copy. Files that are
 * refused: test_placement.c. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "model/placement.h"
#include "tests/rig/cm.h"
#include "tests/rig/placed_model.h"

static int parse(struct placement *p, int ranks, const char *text)
{
    struct config m = model(4);
    return placement_parse(p, &memory, &m, ranks, text, strlen(text), "plan.json");
}

/* How many of `rows` rows go to each copy of the expert, by rank. */
static void count_turns(int *rows_of, const struct layer_placement *l, int expert, int ranks,
                        int rows)
{
    memset(rows_of, 0, (size_t)ranks * sizeof *rows_of);
    for (int row = 0; row < rows; row++) {
        int group = placement_group(l, expert, row), rank = 0;
        assert_int_equal(l->block_at[group], expert);
        while (group >= l->rank_first[rank + 1])
            rank++;
        rows_of[rank]++;
    }
}

/* Each copy is a group, in order of rank and expert, and gets its part of the expert's rows; row 0
 * goes to the copy that the file names first. */
static void copies_take_turns(void **state)
{
    (void)state;
    struct placement p;
    static const int32_t blocks[] = {1, 2, 1, 0, 1, 3};
    static const int32_t first[] = {0, 2, 3, 4, 6};
    int rows_of[4];
    assert_int_equal(parse(&p, 4, "{\"ranks\":4,\"experts\":[2,[3,1,0],0,[3]]}"), 0);
    for (int l = 0; l < 3; l += 2) {
        const struct layer_placement *at = &p.layers[l];
        assert_int_equal(at->n_copies, 2);
        assert_int_equal(at->n_groups, 6);
        assert_memory_equal(at->rank_first, first, sizeof first);
        assert_memory_equal(at->block_at, blocks, sizeof blocks);
        count_turns(rows_of, at, 1, 4, 1);
        assert_int_equal(rows_of[3], 1);
        count_turns(rows_of, at, 1, 4, 3 * 64);
        for (int rank = 0; rank < 4; rank++)
            assert_in_range(rows_of[rank], rank == 2 ? 0 : 62, rank == 2 ? 0 : 68);
        count_turns(rows_of, at, 3, 4, 64);
        assert_int_equal(rows_of[3], 64);
    }
    assert_int_equal(p.n_copies, 4);
    assert_int_equal(p.groups_most, 6);
    assert_int_equal(placement_holding(&p, 0).experts, 4);
    assert_int_equal(placement_holding(&p, 1).experts, 2);
    assert_true(placement_leaves_home(&p, 0));
    assert_int_equal(parse(&p, 4, "{\"ranks\":4,\"experts\":[2,[3],0,[3]]}"), 0);
    assert_int_equal(p.n_copies, 0);
    assert_int_equal(p.layers[0].turns, 1);
}

/* Copies that a Setup names, and Setup's own form of them. */
static void copies_are_checked(void **state)
{
    (void)state;
    static const struct {
        int32_t cell[2], rank[2];
        const char *says;
    } cases[] = {
        {{3, 2}, {0, 0}, "expected a copy of cell 3 to 11, found 2"},
        {{0, 12}, {0, 0}, "expected a copy of cell 0 to 11, found 12"},
        {{-1, 0}, {0, 0}, "expected a copy of cell 0 to 11, found -1"},
        {{0, 5}, {0, 0}, "expected no copies in dense layer 1"},
        {{0, 8},
         {0, 3},
         "expected another rank from 0 to 2 for a copy of layer 2 expert 0, found 3"},
        {{0, 8}, {0, 1}, "for a copy of layer 2 expert 0, found 1"},
        {{8, 8}, {2, 2}, "for a copy of layer 2 expert 0, found 2"},
    };
    struct config m = model(4);
    struct placement p;
    struct placement_spec spec = {"round-robin", 0, false, NULL};
    error_capture(true);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(placement_build(&p, &memory, &m, 3, &spec), 0);
        struct expert_copies copies = {2, cases[i].cell, cases[i].rank};
        assert_int_equal(placement_add_copies(&p, &memory, &copies), STATUS_FAILED);
        if (!strstr(error_text(), cases[i].says))
            fail_msg("expected \"%s\", found \"%s\"", cases[i].says, error_text());
    }
    error_capture(false);
    static const int32_t cell[] = {0, 0, 9}, rank[] = {2, 0, 1};
    struct expert_copies copies = {3, cell, rank};
    assert_int_equal(placement_build(&p, &memory, &m, 3, &spec), 0);
    assert_int_equal(placement_add_copies(&p, &memory, &copies), 0);
    struct expert_copies again = placement_copies(&p, &memory);
    assert_int_equal(again.n, 3);
    assert_memory_equal(again.cell, cell, sizeof cell);
    assert_memory_equal(again.rank, rank, sizeof rank);
}

/* More copies than the sort of rows has room for. */
static void too_many_copies_are_refused(void **state)
{
    (void)state;
    enum { EXPERTS = 1000, RANKS = 5 };
    static char text[EXPERTS * 16];
    struct config m = model(EXPERTS);
    struct placement p;
    size_t at = (size_t)sprintf(text, "{\"ranks\":%d,\"experts\":[", RANKS);
    for (int e = 0; e < EXPERTS; e++)
        at += (size_t)sprintf(text + at, "%s[4,3,2,1,0]", e ? "," : "");
    at += (size_t)sprintf(text + at, "]}");
    error_capture(true);
    assert_int_equal(placement_parse(&p, &memory, &m, RANKS, text, at, "plan.json"),
                     STATUS_BAD_FILE);
    assert_non_null(strstr(error_text(),
                           "plan.json: experts: expected at most 3096 further copies, "
                           "found 4000"));
    error_capture(false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_take_turns),
        cmocka_unit_test(copies_are_checked),
        cmocka_unit_test(too_many_copies_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, end);
}
