#include "model/rope.h"

#include <math.h>

const char *rope_type_name(enum rope_type type)
{
    static const char *const names[] = {"default", "linear", "dynamic", "yarn"};
    return names[type];
}

/* theta^(-2i/head_dim) */
static void plain_frequencies(const struct config *m, float theta, float *frequency)
{
    for (int i = 0; i < m->head_dim / 2; i++)
        frequency[i] = 1.0f / powf(theta, (float)(2 * i) / (float)m->head_dim);
}

/* Dynamic NTK scaling: theta grows with the text beyond the length of training, so that the slowest
 * pair turns as far as it did within it. */
static float grown_theta(const struct config *m, int length)
{
    const struct rope_scaling *r = &m->rope;
    float factor = (float)r->factor, theta = (float)m->rope_theta;
    if (length <= r->original)
        return theta;
    float by = factor * (float)length / (float)r->original - (float)(r->factor - 1);
    return theta * powf(by, (float)((double)m->head_dim / (m->head_dim - 2)));
}

/* The pair that turns `turns` times within the length of training: the solution i of
 * original * theta^(-2i/head_dim) = 2 pi turns. */
static double pair_of(const struct config *m, double turns)
{
    double most = m->rope.original / (turns * 2 * M_PI);
    return m->head_dim * log(most) / (2 * log(m->rope_theta));
}

/* YaRN (Peng et al., 2023): pairs that turn more than `fast` times within the length of training
 * keep their frequency, those that turn less than `slow` times are slowed by the factor, and
 * between the two there is a ramp. */
static void yarn_frequencies(const struct config *m, float *frequency)
{
    const struct rope_scaling *r = &m->rope;
    double low = pair_of(m, r->fast), high = pair_of(m, r->slow);
    if (r->truncate) {
        low = floor(low);
        high = ceil(high);
    }
    low = low > 0 ? low : 0;
    high = high < m->head_dim - 1 ? high : m->head_dim - 1;
    if (low == high)
        high += 0.001; // or the ramp would be 0 wide
    for (int i = 0; i < m->head_dim / 2; i++) {
        float turn = powf((float)m->rope_theta, (float)(2 * i) / (float)m->head_dim);
        float ramp = ((float)i - (float)low) / (float)(high - low);
        float keep = 1 - (ramp < 0 ? 0 : ramp > 1 ? 1 : ramp);
        frequency[i] = 1 / ((float)r->factor * turn) * (1 - keep) + 1 / turn * keep;
    }
}

float rope_frequencies(const struct config *m, int length, float *frequency)
{
    switch (m->rope.type) {
    case ROPE_YARN:
        yarn_frequencies(m, frequency);
        return (float)m->rope.attention;
    case ROPE_DYNAMIC:
        plain_frequencies(m, grown_theta(m, length), frequency);
        return 1;
    case ROPE_LINEAR:
        plain_frequencies(m, (float)m->rope_theta, frequency);
        for (int i = 0; i < m->head_dim / 2; i++)
            frequency[i] /= (float)m->rope.factor;
        return 1;
    default:
        plain_frequencies(m, (float)m->rope_theta, frequency);
        return 1;
    }
}

bool rope_follows_length(const struct config *m, int length)
{
    return m->rope.type == ROPE_DYNAMIC && length > m->rope.original;
}
