#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "tests/rig/cm.h"
#include "tests/rig/control_messages.h"

/* Packed and unpacked again, into an arena that lives until the next call. */
static struct control round_trip(const struct control *message)
{
    static struct arena arena;
    struct control back;
    size_t n;
    void *bytes = control_pack(message, "node7", &n);
    arena_reset(&arena);
    assert_int_equal(control_unpack(bytes, n, 7, &back, &arena), 0);
    free(bytes);
    assert_int_equal(back.kind, message->kind);
    assert_int_equal(back.from, 7);
    if (message->kind == CONTROL_STOP)
        arena_free(&arena);
    return back;
}

static void test_round_trip_hello(void **state)
{
    const struct hello *h = &valid[CONTROL_HELLO].hello;
    struct control back = round_trip(&valid[CONTROL_HELLO]);
    (void)state;
    assert_string_equal(back.hello.version, h->version);
    assert_string_equal(back.hello.host, h->host);
    assert_string_equal(back.hello.device, h->device);
    assert_string_equal(back.host, h->host);
    assert_true(back.hello.isas == h->isas && back.hello.digest == h->digest);
}

static void test_round_trip_setup(void **state)
{
    const struct setup *s = &valid[CONTROL_SETUP].setup;
    struct control back = round_trip(&valid[CONTROL_SETUP]);
    (void)state;
    assert_int_equal(back.setup.isa, s->isa);
    assert_true(same_precision(&back.setup.precision, &s->precision));
    assert_int_equal(back.setup.n_layers, s->n_layers);
    assert_int_equal(back.setup.n_experts, s->n_experts);
    assert_memory_equal(back.setup.rank_of, ranks, sizeof ranks);
    assert_int_equal(back.setup.max_rows, s->max_rows);
    assert_string_equal(back.setup.strategy, s->strategy);
    assert_string_equal(back.setup.combine, s->combine);
    assert_string_equal(back.setup.dedup, s->dedup);
    assert_string_equal(back.setup.wire, s->wire);
    assert_string_equal(back.setup.overlap, s->overlap);
    assert_true(back.setup.profile);
    assert_int_equal(back.setup.n_nccl_ids, s->n_nccl_ids);
    assert_memory_equal(back.setup.nccl_ids, s->nccl_ids, sizeof nccl_ids);
    assert_int_equal(back.setup.n_copies, 3);
    assert_memory_equal(back.setup.copy_cell, copy_cells, sizeof copy_cells);
    assert_memory_equal(back.setup.copy_rank, copy_ranks, sizeof copy_ranks);
}

static void test_round_trip_setup_extremes(void **state)
{
    static int32_t many[CONTROL_MAX_CELLS];
    struct control setup = valid[CONTROL_SETUP], back;
    (void)state;
    for (int i = 0; i < CONTROL_MAX_CELLS; i++)
        many[i] = i % (CONTROL_MAX_RANKS + 1) - 1;
    setup.setup.rank_of = many;
    setup.setup.n_layers = CONTROL_MAX_LAYERS;
    setup.setup.n_experts = CONTROL_MAX_CELLS / CONTROL_MAX_LAYERS;
    back = round_trip(&setup);
    assert_memory_equal(back.setup.rank_of, many, sizeof many);
    setup.setup = (struct setup){.precision = {DTYPE_F32, QUANT_NONE, QUANT_NONE},
                                 .n_layers = 1,
                                 .max_rows = 1,
                                 .strategy = "e",
                                 .combine = "r",
                                 .dedup = "d",
                                 .wire = "w",
                                 .overlap = "o"}; // a dense model
    back = round_trip(&setup);
    assert_null(back.setup.nccl_ids);
    assert_int_equal(back.setup.n_experts, 0);
    assert_int_equal(back.setup.isa, 0);
}

static void test_round_trip_others(void **state)
{
    struct control ready = round_trip(&valid[CONTROL_READY]);
    (void)state;
    assert_true(ready.ready.bytes == UINT64_MAX && ready.ready.experts == UINT32_MAX);
    assert_true(ready.ready.seconds == 1e300);
    assert_int_equal(round_trip(&valid[CONTROL_STEP]).step.n_rows, CONTROL_MAX_ROWS);
    assert_int_equal(round_trip(&valid[CONTROL_STEP]).step.second, CONTROL_MAX_ROWS - 1);
    struct control stats = round_trip(&valid[CONTROL_STATS]);
    assert_memory_equal(&stats.stats, &valid[CONTROL_STATS].stats, sizeof stats.stats);
    struct control question = round_trip(&(struct control){.kind = CONTROL_STATS});
    assert_true(question.stats.steps == 0 && question.stats.peak_bytes == 0);
    struct control fault = round_trip(&valid[CONTROL_FAULT]);
    assert_int_equal(fault.fault.code, STATUS_LOST_RANK);
    assert_string_equal(fault.fault.text, valid[CONTROL_FAULT].fault.text);
    assert_string_equal(fault.host, "node7");
    round_trip(&valid[CONTROL_STOP]);
}

static void test_round_trip_profile(void **state)
{
    static struct trace_event many[CONTROL_MAX_MARKS];
    (void)state;
    struct control clock = round_trip(&valid[CONTROL_CLOCK]);
    assert_true(clock.clock.heard_ns == 0 && clock.clock.said_ns == INT64_MAX);
    struct control speed = round_trip(&valid[CONTROL_SPEED]);
    assert_memory_equal(&speed.speed, &valid[CONTROL_SPEED].speed, sizeof speed.speed);
    struct control logits = round_trip(&valid[CONTROL_LOGITS]);
    assert_memory_equal(&logits.logits, &valid[CONTROL_LOGITS].logits, sizeof logits.logits);
    struct control back = round_trip(&valid[CONTROL_RECORDS]);
    assert_int_equal(back.records.n, N_MARKS);
    assert_memory_equal(back.records.events, marks, sizeof marks);
    assert_true(back.records.left == UINT64_MAX && back.records.dropped == 1);
    back = round_trip(&(struct control){.kind = CONTROL_RECORDS});
    assert_true(back.records.n == 0 && back.records.left == 0);
    for (int i = 0; i < CONTROL_MAX_MARKS; i++) // the longest varints
        many[i] = (struct trace_event){(int64_t)i << 44, -1, CONTROL_MAX_LAYERS - 1, 0, 1};
    back = round_trip(
        &(struct control){.kind = CONTROL_RECORDS, .records = {many, CONTROL_MAX_MARKS, 0, 0}});
    assert_memory_equal(back.records.events, many, sizeof many);
    round_trip(&valid[CONTROL_STOP]);
}

/* A Fault is heard whatever its code; a text too long is cut. */
static void test_odd_faults(void **state)
{
    static const int codes[] = {0, 5, -1, 139, 1 << 30};
    char text[CONTROL_FAULT_BYTES + 100];
    struct control fault = {.kind = CONTROL_FAULT, .fault = {0, ""}};
    (void)state;
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        fault.fault.code = codes[i];
        assert_int_equal(round_trip(&fault).fault.code, STATUS_FAILED);
    }
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    fault.fault.text = text;
    assert_int_equal(strlen(round_trip(&fault).fault.text), CONTROL_FAULT_BYTES);
}

static void expect_refused(const void *bytes, size_t n, const char *why)
{
    struct arena arena = {0};
    struct control message;
    error_capture(true);
    assert_int_equal(control_unpack(bytes, n, 7, &message, &arena), STATUS_FAILED);
    bool as_expected = strstr(error_text(), why) && !strncmp(error_text(), "rank 7: ", 8);
    if (!as_expected)
        fprintf(stderr, "expected \"rank 7: … %s\", found \"%s\"\n", why, error_text());
    assert_true(as_expected);
    error_capture(false);
    arena_free(&arena);
}

/* Hex as bytes, in memory of just that size; ( … ) puts the length of what it holds before it. */
static unsigned char *from_hex(const char *hex, size_t *n)
{
    unsigned char *bytes = malloc(strlen(hex) + 1);
    size_t opened[4], depth = 0;
    unsigned byte;
    assert_non_null(bytes);
    for (*n = 0; *hex; hex++) {
        if (*hex == '(')
            opened[depth++] = (*n)++;
        else if (*hex == ')')
            depth--, bytes[opened[depth]] = (unsigned char)(*n - opened[depth] - 1);
        else if (*hex != ' ' && sscanf(hex++, "%2x", &byte) == 1)
            bytes[(*n)++] = (unsigned char)byte;
    }
    return realloc(bytes, *n ? *n : 1);
}

static void test_malformed(void **state)
{
    static const struct {
        const char *hex, *why;
    } cases[] = {
        // the envelope
        {"", "expected a control message, found one of no kind"},
        {"ff", "found 1 other bytes"},                      // a tag that does not end
        {"0000", "other bytes"},                            // field 0
        {"0a 05 01", "other bytes"},                        // a Hello that is cut off
        {"0a ffffffff0f", "other bytes"},                   // … that claims 4 GiB
        {"0a ffffffffffffffffffff01 00", "other bytes"},    // … a length of 11 bytes
        {"0801", "other bytes"},                            // a Hello that is a number
        {"23 24", "other bytes"},                           // groups, long gone from protobuf
        {"7a 01 78", "one of no kind"},                     // only a field we do not know
        {"22 04 08 ffffff", "other bytes"},                 // a number that is cut off
        {"22 0b 08 ffffffffffffffffffffff", "other bytes"}, // … that does not end
        {"1a 05 19 01020304", "other bytes"},               // a double that is cut off
        {"12 04 2a 02 ff ff", "other bytes"},               // ranks that are cut off
        // Hello: version host device isas digest
        {"0a ()", "Hello.version: expected 1 to 255 bytes of text, found 0"},
        {"0a (0a03 610062 120168 1a0163 2001)", "found 3 with a NUL"},
        {"0a (0a0176 1a0163 2001)", "Hello.host: expected 1 to 255 bytes of text, found 0"},
        {"0a (0a0176 120168 2001)", "Hello.device"},
        {"0a (0a0176 120168 1a0163)", "Hello.isas: expected 1 to 4294967295, found 0"},
        {"0a (0a0176 120168 1a0163 2001 2801)", "other bytes"}, // a digest of another type
        // Setup: isa dtype layers experts ranks rows strategy combine dedup wire overlap
        {"12 ()", "Setup.isa: expected a single bit, found 0"},
        {"12 (0803 1001 1801 2001 2a0100 3001 3a0165 420172)", "Setup.isa: expected a single bit"},
        {"12 (0801 1801 2001 2a0100 3001 3a0165 420172)", "Setup.dtype: expected 1 to 3, found 0"},
        {"12 (0801 1004 1801 2001 2a0100 3001 3a0165 420172)",
         "Setup.dtype: expected 1 to 3, found 4"},
        {"12 (0801 10ffffffffffffffffff01 1801 2001 2a0100 3001 3a0165 420172)",
         "Setup.dtype: expected 1 to 3, found -1"},
        {"12 (0801 1001 1801 2001 2a0100 3001 3a0165 420172 980103)",
         "Setup.matrices: expected 0 to 2, found 3"},
        {"12 (0801 1001 1801 2001 2a0100 3001 3a0165 420172 a00104)",
         "Setup.blocks: expected 0 to 2, found 4"},
        {"12 (0801 1001 2001 2a0100 3001 3a0165 420172)",
         "Setup.n_layers: expected 1 to 4096, found 0"},
        {"12 (0801 1001 188120 2001 2a0100 3001 3a0165 420172)",
         "Setup.n_layers: expected 1 to 4096, found 4097"},
        {"12 (0801 1001 18ffffffff0f 2001 2a0100 3001 3a0165 420172)", "found 4294967295"},
        {"12 (0801 1001 1801 20818004 2a0100 3001 3a0165 420172)",
         "Setup.n_experts: expected 0 to 65536, found 65537"},
        {"12 (0801 1001 1801 2002 2a0100 3001 3a0165 420172)",
         "Setup.rank_of: expected 1 x 2 ranks, at most 1048576, found 1"},
        {"12 (0801 1001 1801 2001 3001 3a0165 420172)",
         "Setup.rank_of: expected 1 x 1 ranks, at most 1048576, found 0"},
        {"12 (0801 1001 1801 2000 2a0100 3001 3a0165 420172)",
         "Setup.rank_of: expected 1 x 0 ranks, at most 1048576, found 1"},
        {"12 (0801 1001 1801 2001 2a0103 3001 3a0165 420172)",
         "Setup.rank_of: expected -1 to 65535, found -2"},
        {"12 (0801 1001 1801 2001 2a03808008 3001 3a0165 420172)",
         "Setup.rank_of: expected -1 to 65535, found 65536"},
        {"12 (0801 1001 1801 2001 2a0100 3001 3a0165 420172 8a010100)",
         "Setup.copy_cell: expected as many as copy_rank, at most 1048576, found 1 and 0"},
        {"12 (0801 1001 1801 2001 2a0100 3001 3a0165 420172 8a010101 92010101)",
         "Setup.copy_cell: expected 0 to 0, found 1"},
        {"12 (0801 1001 1801 2002 2a020000 3001 3a0165 420172 8a01020100 9201020101)",
         "Setup.copy_cell: expected 1 to 1, found 0"},
        {"12 (0801 1001 1801 2001 2a0100 3001 3a0165 420172 8a010100 920103808004)",
         "Setup.copy_rank: expected 0 to 65535, found 65536"},
        {"12 (0801 1001 1801 2001 2a0100 3a0165 420172)",
         "Setup.max_rows: expected 1 to 16777216, found 0"},
        {"12 (0801 1001 1801 2001 2a0100 3081808008 3a0165 420172)",
         "Setup.max_rows: expected 1 to 16777216, found 16777217"},
        {"12 (0801 1001 1801 2001 2a0100 3001 420172)", "Setup.strategy"},
        {"12 (0801 1001 1801 2001 2a0100 3001 3a0165 420100)",
         "Setup.combine: expected 1 to 255 bytes of text, found 1 with a NUL"},
        {"12 (0801 1001 1801 2001 2a0100 3001 3a0165 420172 520177)", "Setup.dedup"},
        {"12 (0801 1001 1801 2001 2a0100 3001 3a0165 420172 4a0164)", "Setup.wire"},
        {"12 (0801 1001 1801 2001 2a0100 3001 3a0165 420172 4a0164 520177)", "Setup.overlap"},
        {"12 (0801 1001 1801 2001 2a0100 3001 3a0165 420172 4a0164 520177 5a016f 6a03010203)",
         "Setup.nccl_ids: expected up to 2 of 128 bytes, found 3"},
        // Ready.seconds: NaN, infinity, less than nothing
        {"1a (19 000000000000f87f)", "Ready.seconds: expected 0 or more, found "},
        {"1a (19 000000000000f07f)", "Ready.seconds: expected 0 or more, found inf"},
        {"1a (19 000000000000f0bf)", "Ready.seconds: expected 0 or more, found -1"},
        // Step: n_rows second
        {"22 ()", "Step.n_rows: expected 1 to 16777216, found 0"},
        {"22 (0881808008)", "Step.n_rows: expected 1 to 16777216, found 16777217"},
        {"22 (08ffffffff0f)", "Step.n_rows: expected 1 to 16777216, found 4294967295"},
        {"22 (0805 1005)", "Step.second: expected 0 to 4, found 5"},
        // Fault: code text host
        {"32 (0801 120100)", "Fault.text: expected 0 to 4095 bytes of text, found 1 with a NUL"},
        {"32 (0801 1a0100)", "Fault.host: expected 0 to 255 bytes of text, found 1 with a NUL"},
        // Clock: heard, said
        {"42 (0802 1001)", "Clock: expected to be heard before said, found 2 and 1"},
        {"42 (10ffffffffffffffffff01)", "found 0 and 18446744073709551615"},
        // Records: start after phase place detail
        {"4a (120100)", "Records: expected lists of one length up to 262144, found 1, 0, 0 and 0"},
        {"4a (12020000 1a020000 22020000 2a0100)", "found 2, 2, 2 and 1"},
        {"4a (120100 1a0112 220100 2a0100)", "Records.phase: expected 0 to 17, found 18"},
        {"4a (120100 1a0100 22028140 2a0100)", "Records.place: expected 0 to 8192, found 8193"},
        {"4a (08ffffffffffffffffff01)", "Records.after_ns: expected at most"},
        {"4a (08ffffffffffffffff7f 12020001 1a020000 22020000 2a020000)",
         "Records.after_ns: expected at most 0, found 1"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t n;
        unsigned char *bytes = from_hex(cases[i].hex, &n);
        expect_refused(bytes, n, cases[i].why);
        free(bytes);
    }
}

/* The smallest legal ones, so that the table above fails for the reason it says. */
static void test_least(void **state)
{
    static const char *const cases[] = {
        "0a (0a0176 120168 1a0163 2001)",
        "12 (0801 1001 1801 2001 2a0100 3001 3a0165 420172 4a0164 520177 5a016f)",
        "1a ()",
        "22 (0801)",
        "22 (0803 1002)",
        "2a ()",
        "32 ()",
        "3a ()",
        "42 ()",
        "4a ()",
        "4a (120100 1a0111 22028040 2a0100)",
        "22 (0801 7a (6869))",                       // a field we do not know inside a Step
        "22 (0801) 7a (6869)",                       // … beside it
        "22 (0801 7d 01020304 79 0102030405060708)", // … of other types
        "22 (0801) 3a ()",                           // two kinds: the last counts
        // ranks that are not packed
        "12 (0801 1001 1801 2002 2800 2801 3001 3a0165 420172 4a0164 520177 5a016f)",
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct arena arena = {0};
        struct control message;
        size_t n;
        unsigned char *bytes = from_hex(cases[i], &n);
        assert_int_equal(control_unpack(bytes, n, 7, &message, &arena), 0);
        free(bytes);
        arena_free(&arena);
    }
}

/* Every message cut at every length, and with every byte changed: refused or read, never worse. */
static void test_mutilated(void **state)
{
    struct arena arena = {0};
    struct control message;
    (void)state;
    error_capture(true);
    for (int kind = 0; kind < N_KINDS; kind++) {
        size_t n;
        unsigned char *bytes = control_pack(&valid[kind], "node7", &n);
        for (size_t i = 0; i < n; i++) {
            unsigned char *cut = malloc(i ? i : 1);
            memcpy(cut, bytes, i);
            control_unpack(cut, i, 7, &message, &arena);
            free(cut);
            for (int flip = 1; flip < 256; flip++) {
                bytes[i] ^= (unsigned char)flip;
                control_unpack(bytes, n, 7, &message, &arena);
                bytes[i] ^= (unsigned char)flip;
            }
            arena_reset(&arena);
        }
        free(bytes);
    }
    error_capture(false);
    arena_free(&arena);
}

static void test_too_long(void **state)
{
    size_t n = CONTROL_MAX_BYTES + 1;
    char *bytes = calloc(1, n);
    (void)state;
    expect_refused(bytes, n, "expected a message of at most 16777216 bytes, found 16777217");
    free(bytes);
}

/* Millions of empty Hellos in one message, of which only the last counts. */
static void test_many_in_one(void **state)
{
    enum { HELLOS = 4 << 20 };
    unsigned char *bytes = calloc(HELLOS, 2);
    (void)state;
    for (size_t i = 0; i < HELLOS; i++)
        bytes[2 * i] = 0x0a;
    expect_refused(bytes, 2 * (size_t)HELLOS, "other bytes");
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip_hello),
        cmocka_unit_test(test_round_trip_setup),
        cmocka_unit_test(test_round_trip_setup_extremes),
        cmocka_unit_test(test_round_trip_others),
        cmocka_unit_test(test_round_trip_profile),
        cmocka_unit_test(test_odd_faults),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_least),
        cmocka_unit_test(test_mutilated),
        cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_many_in_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
