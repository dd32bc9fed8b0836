/* Measuring what messages, bytes, rows and experts cost, on the ranks at hand: laps of an exchange
 * by itself, rows through experts by themselves, steps with everything on rank 0, and steps of all
 * ranks. Everything is measured twice, in turn: a second turn begins when the first has gone
 * through all. docs/measuring.md says what is made of it. */
#pragma once

#include <stdio.h>

#include "coordinator/coordinator.h"
#include "study/alltoall.h"
#include "study/fit.h"
#include "study/replay.h"

enum { CALIBRATE_TURNS = 2, CALIBRATE_MOST_SHAPES = 32 };

/* A step: so many sequences with so many rows each, the first of them at a position. */
struct step_shape {
    int sequences, rows, position;
    bool held_out;
};

struct calibrate_options {
    const char *version;
    struct fit_model shape; // of laps; and of the model, if there is one
    bool has_model;
    int most_rows;   // of a lap or a step
    int repetitions; // of each setting in each turn
    bool all_ways;   // steps go by every way; what the fit sees does not change
    int context;     // positions that the model has
};

struct calibration {
    struct arena memory;
    struct setting *settings;
    int n, room;
    enum isa isa;
    int n_shapes;
    struct step_shape shapes[CALIBRATE_MOST_SHAPES];
    struct routing_file routing; // a step of each shape, in order
};

void calibration_open(struct calibration *c, const struct calibrate_options *o);
void calibration_close(struct calibration *c);

/* ---- laps ---- */

/* Rank 0 adds a setting for each way and size; between two ways workers are told to stop, but not
 * after the last, also when it returns an error. at_once: see struct setting. 0, or the error's
 * status. */
int calibrate_laps(struct calibration *c, struct transport *t, const struct calibrate_options *o,
                   int at_once);
/* Any other rank, until all has been measured or rank 0 gave up. 0 or the error's status. */
int calibrate_serve_laps(struct transport *t, const struct calibrate_options *o);
/* Rank 0, instead of calibrate_laps(): nothing is measured; one more Stop ends it. */
void calibrate_no_laps(struct transport *t);

/* ---- steps ---- */

/* What a coordinator must be opened for. */
int calibrate_sequences(const struct calibration *c);
int calibrate_context(const struct calibration *c);

/* A coordinator alone, whose record is path: records a step of each shape, which makes the record
 * complete, and reads it; then adds a setting for each shape, of the step and of its experts. */
int calibrate_alone(struct calibration *c, struct coordinator *alone,
                    const struct calibrate_options *o, const char *path);
/* All ranks, opened with `opened`: placement even, no overlap. Adds a setting for each way and
 * shape. After calibrate_alone(). */
int calibrate_steps(struct calibration *c, struct coordinator *all,
                    const struct coordinator_options *opened, const struct calibrate_options *o,
                    int at_once);

/* ---- results ---- */

/* Prices and how good they are, as people read them; with `check` also each step that the fit has
 * not seen. fitted: the prices come from these settings. The last lines have the errors. */
void calibrate_print(const struct fit *f, const struct calibration *c, bool check, bool fitted,
                     FILE *out);
