/* A placement of a model's experts computed from recorded routing. docs/study.md says what it
 * minimises and how. */
#pragma once

#include "model/placement.h"
#include "proto/routing.h"

enum place_goal { PLACE_BOTH, PLACE_DECODE, PLACE_PREFILL };

struct place_wish {
    int n_ranks;
    long home;  // experts of each layer on rank 0, the first ones by id
    int copies; // further copies of experts in each layer, at most
    enum place_goal goal;
};

/* *p := the experts of all layers over ranks: rank 0 has the first `home` ones by id, the others
 * and their copies are the workers', as many each as in an even placement of as many. A layer has
 * fewer copies than wished for, or none, where more do not lower the cost. `layers` is that of the
 * file (replay_layers). With one rank everything is at home. The same file gives the same
 * placement. 0, or a status of placement_build(). */
int place_by_routing(struct placement *p, struct arena *memory, const struct routing_file *f,
                     const struct config *layers, const struct place_wish *wish);
