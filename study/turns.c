#include "study/turns.h"

#include <math.h>

double turns_time(const struct turn *turns, int layers, int halves, bool travels)
{
    double coordinator = 0, out = 0, workers = 0, back = 0; // when each is done with its last half
    double at_home[MOST_HALVES] = {0, 0};                   // when all results of a half are back
    for (int i = 0; i < layers * halves; i++) {
        struct turn t = turns[i];
        if (!travels)
            t.hand = t.out = t.back = 0;
        coordinator = fmax(coordinator, at_home[i % halves]) + t.home + t.hand;
        out = fmax(out, coordinator) + t.out;
        workers = fmax(workers, out) + t.experts;
        back = fmax(back, workers) + t.back;
        at_home[i % halves] = back;
    }
    return fmax(at_home[0], at_home[1]);
}
