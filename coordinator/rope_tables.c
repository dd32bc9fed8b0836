#include "coordinator/rope_tables.h"

#include <math.h>

#include "model/rope.h"

/* Make the rows of positions [0, end) of a sequence whose prompt has n tokens. Angles are in f32,
 * as in transformers; their cosines and sines are computed in double and rounded. */
static void make_rows(struct rope_tables *r, const struct config *m, int slot, int n, int end)
{
    float frequency[MAX_HEAD_DIM / 2], scale = rope_frequencies(m, n, frequency);
    int half = r->table.half;
    size_t first = (size_t)slot * (size_t)r->table.stride;
    for (int p = 0; p < end; p++) {
        float *cosines = r->cosines + (first + (size_t)p) * (size_t)half;
        float *sines = r->sines + (first + (size_t)p) * (size_t)half;
        if (p >= n && rope_follows_length(m, p + 1))
            scale = rope_frequencies(m, p + 1, frequency);
        for (int i = 0; i < half; i++) {
            float angle = (float)p * frequency[i];
            cosines[i] = (float)cos((double)angle) * scale;
            sines[i] = (float)sin((double)angle) * scale;
        }
    }
}

/* Copy the rows of positions [0, end) of a sequence to the device. */
static void upload_rows(struct rope_tables *r, struct dev *d, int slot, int end)
{
    size_t first = (size_t)slot * (size_t)r->table.stride * (size_t)r->table.half;
    size_t bytes = (size_t)end * (size_t)r->table.half * sizeof(float);
    dev_upload(d, (float *)(uintptr_t)r->table.cosines + first, r->cosines + first, bytes);
    dev_upload(d, (float *)(uintptr_t)r->table.sines + first, r->sines + first, bytes);
}

void rope_tables_open(struct rope_tables *r, struct dev *d, const struct config *m, int positions,
                      int sequences)
{
    int half = m->head_dim / 2, own = rope_follows_length(m, positions) ? sequences : 1;
    size_t bytes = (size_t)own * (size_t)positions * (size_t)half * sizeof(float);
    r->positions = positions;
    r->cosines = dev_alloc_host(d, bytes);
    r->sines = dev_alloc_host(d, bytes);
    r->prompt = dev_alloc_host(d, (size_t)sequences * sizeof *r->prompt);
    r->table = (struct rope_table){dev_alloc_copy(d, r->cosines, bytes),
                                   dev_alloc_copy(d, r->sines, bytes), half,
                                   rope_follows_length(m, positions) ? positions : 0};
    for (int slot = 0; slot < own; slot++) {
        make_rows(r, m, slot, 0, positions);
        upload_rows(r, d, slot, positions);
    }
}

void rope_tables_begin(struct rope_tables *r, struct dev *d, const struct config *m, int slot,
                       int n)
{
    int before = r->prompt[slot], prompt = rope_follows_length(m, n) ? n : 0;
    if (r->table.stride == 0 || prompt == before)
        return;
    int end = prompt > before ? prompt : before;
    if (dev_wait(d)) // the host's rows may be on their way to the device
        return;
    make_rows(r, m, slot, prompt, end);
    upload_rows(r, d, slot, end);
    r->prompt[slot] = prompt;
}
