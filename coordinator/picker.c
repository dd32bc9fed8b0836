#include "coordinator/picker.h"

#include "kernels/ops.h"

void picker_open(struct picker *p, struct dev *d, int vocab, int rows, int sequences)
{
    size_t words = (size_t)seen_words(vocab), n = (size_t)rows;
    size_t best = n * TOP_MOST * sizeof *p->best, penalties = n * sizeof *p->penalties;
    *p = (struct picker){
        .vocab = vocab,
        .seen = dev_alloc(d, (size_t)sequences * words * sizeof *p->seen),
        .nothing = dev_alloc_host(d, words * sizeof *p->nothing),
        .all = dev_alloc_host(d, 2 * (size_t)vocab * sizeof *p->all),
        .seq = dev_alloc_host(d, n * sizeof *p->seq),
        .samplers = dev_alloc_host(d, n * sizeof *p->samplers),
        .picked = dev_alloc_host(d, n * sizeof *p->picked),
        .penalties_host = dev_alloc_host(d, penalties),
        .best_host = dev_alloc_host(d, best),
    };
    p->penalties = dev_alloc_copy(d, p->penalties_host, penalties);
    p->best = dev_alloc_copy(d, p->best_host, best);
    p->merged = dev_alloc_host(d, best);
}

void picker_forget(struct picker *p, struct dev *d, int seq)
{
    size_t words = (size_t)seen_words(p->vocab);
    dev_upload(d, p->seen + (size_t)seq * words, p->nothing, words * sizeof *p->seen);
}

void picker_see(struct picker *p, struct dev *d, const int32_t *tokens, const int32_t *seq, int n)
{
    add_seen(d, p->seen, tokens, seq, n, p->vocab);
}

static void penalise_rows(struct picker *p, struct dev *d, float *logits, int n)
{
    bool any = false;
    for (int i = 0; i < n; i++) {
        float factor = (float)p->samplers[i]->options.repetition_penalty;
        p->penalties_host[i] = (struct penalty){p->seq[i], factor};
        any = any || factor != 1;
    }
    if (!any)
        return;
    dev_upload(d, p->penalties, p->penalties_host, (size_t)n * sizeof *p->penalties);
    penalise(d, logits, p->seen, p->penalties, n, p->vocab);
}

static int needs(const struct picker *p, int row)
{
    return sampler_needs(&p->samplers[row]->options, p->vocab);
}

int picker_needs(const struct picker *p, int n)
{
    int most = 0;
    for (int i = 0; i < n; i++) {
        int own = needs(p, i);
        if (own == 0 || p->samplers[i]->options.repetition_penalty != 1)
            return 0;
        most = own > most ? own : most;
    }
    return most;
}

void picker_pick_from(struct picker *p, const struct candidate *best, int most, int n)
{
    for (int i = 0; i < n; i++)
        p->picked[i] = sampler_pick(p->samplers[i], best + (size_t)(i * most), most);
}

int picker_pick(struct picker *p, struct dev *d, float *logits, float *host, int n)
{
    size_t vocab = (size_t)p->vocab;
    int most = 0;
    penalise_rows(p, d, logits, n);
    for (int i = 0; i < n; i++) {
        size_t row = (size_t)i * vocab;
        most = needs(p, i) > most ? needs(p, i) : most;
        if (needs(p, i) == 0)
            dev_download(d, host + row, logits + row, vocab * sizeof *host);
    }
    if (most) {
        top_tokens(d, p->best, logits, n, p->vocab, most);
        dev_download(d, p->best_host, p->best, (size_t)(n * most) * sizeof *p->best);
    }
    int status = dev_wait(d);
    for (int i = 0; i < n && !status; i++) {
        struct sampler *s = p->samplers[i];
        const struct candidate *best = p->best_host + (size_t)(i * most);
        int count = needs(p, i);
        if (count == 0) {
            count = sampler_rank(&s->options, p->all, host + (size_t)i * vocab, p->vocab);
            best = p->all;
        }
        p->picked[i] = sampler_pick(s, best, count);
    }
    return status;
}
