#include "coordinator/distribution.h"

#include <math.h>

/* The largest logit is subtracted before exp(), so that no term overflows. */
double log_sum(const float *logits, int n)
{
    double most = -INFINITY, sum = 0;
    for (int i = 0; i < n; i++)
        most = logits[i] > most ? logits[i] : most;
    for (int i = 0; i < n; i++)
        sum += exp(logits[i] - most);
    return most + log(sum);
}

int best_token(const float *logits, int n)
{
    int best = 0;
    for (int i = 1; i < n; i++)
        best = logits[i] > logits[best] ? i : best;
    return best;
}

double divergence(const float *p, const float *q, int n)
{
    double of_p = log_sum(p, n), of_q = log_sum(q, n), sum = 0;
    for (int i = 0; i < n; i++) {
        double log_p = p[i] - of_p, log_q = q[i] - of_q;
        double weight = exp(log_p);
        if (weight > 0) // a token that p makes impossible adds nothing, whatever q says of it
            sum += weight * (log_p - log_q);
    }
    return sum;
}
