/* The digest by which ranks check that they have the same checkpoint. Hashing all weights would
 * take minutes. Fine-tuning changes every tensor, so the first bytes of each are enough to tell two
 * checkpoints of a model apart. */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/pulse.h"
#include "model/checkpoint.h"

enum { SAMPLE_BYTES = 4096 };

static int add_config(const struct checkpoint *c, uint64_t *hash)
{
    size_t bytes;
    char *text = checkpoint_config(checkpoint_dir(c), &bytes);
    if (!text)
        return STATUS_BAD_FILE;
    *hash = hash_bytes(*hash, text, bytes);
    free(text);
    return 0;
}

static uint64_t hash_facts(uint64_t hash, const struct tensor *t)
{
    hash = hash_bytes(hash, t->name, strlen(t->name));
    hash = hash_bytes(hash, t->type_name, strlen(t->type_name));
    return hash_bytes(hash, t->shape, (size_t)t->n_dims * sizeof *t->shape);
}

/* Add the first bytes of a tensor; of a tensor that fuses the experts of a layer, those of each
 * expert. */
static int add_tensor(const struct checkpoint *c, const struct tensor *t, uint64_t *hash)
{
    char sample[SAMPLE_BYTES];
    uint64_t step = t->bytes;
    if (t->n_dims == 3 && t->shape[0] > 0)
        step = t->bytes / (uint64_t)t->shape[0];
    if (step < SAMPLE_BYTES)
        step = SAMPLE_BYTES;
    *hash = hash_facts(*hash, t);
    for (uint64_t first = 0; first < t->bytes; first += step) {
        uint64_t left = t->bytes - first;
        size_t bytes = left < SAMPLE_BYTES ? (size_t)left : SAMPLE_BYTES;
        int status = checkpoint_read(c, t, first, bytes, sample);
        if (status)
            return status;
        *hash = hash_bytes(*hash, sample, bytes);
        pulse();
    }
    return 0;
}

int checkpoint_digest(const struct checkpoint *c, uint64_t *digest)
{
    uint64_t hash = HASH_START;
    int status = add_config(c, &hash);
    for (size_t i = 0; i < checkpoint_count(c) && !status; i++)
        status = add_tensor(c, checkpoint_at(c, i), &hash);
    if (!status)
        *digest = hash;
    return status;
}
