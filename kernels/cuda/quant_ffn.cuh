/* Jobs of an ffn with quantised weights: what ffn.cu leaves to quant_ffn.cu. */
#pragma once

#include "kernels/cuda/ffn_tiles.cuh"

enum { QUANT_ALIGN = 64 }; // of where a part's scratch begins

/* Behind a job's hidden rows the scratch has the rows that it reads and its hidden rows, both
 * quantised; 0 bytes for a job that is not quantised. */
size_t quant_job_bytes(const struct ffn_job *job);
/* Set p->read and p->made, p being part of the job. */
void quant_part_open(ffn_part *p, const struct ffn_job *job);
/* The scratch of the largest job within the limits, but for the hidden rows: experts' and pieces'.
 */
size_t quant_experts_bytes(const struct dev_limits *limits);
size_t quant_pieces_bytes(const struct dev_limits *limits);

/* All parts of a call, whose weights are all quantised so. `type` is that of rows. */
void quant_ffn_call(struct dev *d, const ffn_call &call, enum dtype type, enum quant quant);
