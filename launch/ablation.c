#include "launch/ablation.h"

#include <string.h>

#include "base/log.h"
#include "launch/ranks.h"

/* The dense model to set beside a mixture of experts: its sibling of the same series, with as many
 * layers. False: none is known. */
static bool sibling_of(char *name, size_t size, const char *model)
{
    static const char sparse[] = "synth:qwen1.5-moe-a2.7b", dense[] = "synth:qwen1.5-7b";
    if (strncmp(model, sparse, sizeof sparse - 1) != 0)
        return false;
    snprintf(name, size, "%s%s", dense, model + sizeof sparse - 1);
    return true;
}

static int run_load(struct ablation_report *r, struct process *p, const struct model_options *from,
                    const struct ablation_options *o, enum ablation_load load)
{
    static const char *const steps[] = {"weights in rows, f32", "panels, f32", "panels, bf16",
                                        "the dense model"};
    struct ranks ranks;
    struct model_options model = *from;
    struct session_needs needs = {ABLATION_BATCH, ABLATION_BATCH, o->prompt + o->generate};
    bool half = load == ABLATION_BF16 || load == ABLATION_DENSE;
    model.dtype = 1 + (half ? DTYPE_BF16 : DTYPE_F32);
    model.eager = load == ABLATION_ROWS;
    model.model = load == ABLATION_DENSE ? o->dense_name : model.model;
    note("ablation: %d of %d, %s", load + 1, ABLATION_LOADS, steps[load]);
    int status = ranks_open(&ranks, p, &model, &needs);
    if (status)
        return status;
    status = ablation_run(r, &ranks.coordinator, o, load);
    ranks_close(&ranks);
    return status;
}

int ablation_here(struct process *p, const struct model_options *model,
                  const struct ablation_options *given, enum bench_format format)
{
    struct ablation_report report = {0};
    struct ablation_options o = *given;
    char sibling[256];
    int status = 0;
    if (!o.dense_name && sibling_of(sibling, sizeof sibling, model->model))
        o.dense_name = sibling;
    for (int load = 0; load < (o.dense_name ? ABLATION_LOADS : ABLATION_DENSE) && !status; load++)
        status = run_load(&report, p, model, &o, (enum ablation_load)load);
    if (!status)
        ablation_print(&report, &o, format, stdout);
    ablation_close(&report);
    return status;
}
