#include "coordinator/score.h"

#include <math.h>

#include "coordinator/adjust.h"
#include "coordinator/unembed.h"

/* Score the tokens after positions first .. first + n - 1, whose logits [n][vocab] these are. */
static int score(const struct request *r, const float *logits, int vocab, int first, int n)
{
    for (int i = 0; i < n; i++) {
        const float *row = logits + (size_t)i * (size_t)vocab;
        int next = first + i + 1;
        logprobs_of_best(r->scored, row, vocab);
        if (!isfinite(r->scored->log_sum))
            return SCORE_BROKEN;
        logprobs_of_picked(r->scored, row, r->tokens[next]);
        r->on_scored(r->context, next);
    }
    return 0;
}

enum { MOST_ROWS = 64 }; // of one unembed_download()

int score_rows(struct coordinator *c, const struct request *r, int row, int first, int n)
{
    int32_t rows[MOST_ROWS];
    int most = c->logit_rows < MOST_ROWS ? c->logit_rows : MOST_ROWS, status = 0;
    n = n < r->n - 1 - first ? n : r->n - 1 - first;
    for (int done = 0, some; done < n && !status; done += some) {
        some = n - done < most ? n - done : most;
        for (int i = 0; i < some; i++)
            rows[i] = row + done + i;
        status = unembed_download(c, rows, some);
        if (!status)
            status = score(r, c->state.logits_host, c->config.vocab_size, first + done, some);
    }
    return status;
}
