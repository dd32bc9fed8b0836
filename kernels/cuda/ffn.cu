/* Experts and pieces of dense blocks: ffns. Jobs of few rows share two launches, one for gate and
 * up and one for down, which read the weights of each ffn that has rows once (stream.cuh). Jobs of
 * many rows go to ffn_many.cu.
 *
 * Only the device knows which ffn has which rows. So a grid is sized for the worst case, and a
 * block of threads that finds no tile of work ends. */
#include "base/check.h"
#include "kernels/cuda/ffn_tiles.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/product.cuh"
#include "kernels/cuda/quant_ffn.cuh"

enum { MEAN_ROWS = 8 }; // with more rows than this for each ffn, ffn_many.cu is faster

struct gate_up_side : gate_up_sums {
    template <int FRAGMENTS> using tile_type = stream_tile<FRAGMENTS>;

    template <class T, int FRAGMENTS>
    static __device__ __forceinline__ void fill(stream_tile<FRAGMENTS> &tile, const ffn_part &p,
                                                const strip &s, int output, int lane)
    {
        int bytes = p.dim_stride * (int)sizeof(T);
        stream_outputs(tile, p.blocks[s.block].gate_up, bytes, outputs(p), output, lane);
        stream_rows(tile, p.x, bytes, p.source, s.x_first, s.first, s.rows, lane);
    }
};

struct down_side : down_sums {
    template <int FRAGMENTS> using tile_type = stream_tile<FRAGMENTS>;

    template <class T, int FRAGMENTS>
    static __device__ __forceinline__ void fill(stream_tile<FRAGMENTS> &tile, const ffn_part &p,
                                                const strip &s, int output, int lane)
    {
        int bytes = p.width_stride * (int)sizeof(T);
        stream_outputs(tile, p.blocks[s.block].down, bytes, p.dim, output, lane);
        stream_rows(tile, p.hidden, bytes, NULL, s.first, s.first, s.rows, lane);
    }
};

template <class T, int FRAGMENTS, class Side>
__global__ void __launch_bounds__(STREAM_WARPS *WARP_SIZE, stream_blocks<T, FRAGMENTS>())
    ffn_stream(const __grid_constant__ ffn_call call)
{
    stream<T, FRAGMENTS, STREAM_WARPS>(ffn_tiles<T, FRAGMENTS, Side>{call});
}

template <class T, int FRAGMENTS, class Side> static void launch_side(struct dev *d, ffn_call call)
{
    size_t tiles = most_tiles<FRAGMENTS, Side>(call);
    size_t most = (size_t)(d->cuda->multiprocessors * stream_blocks<T, FRAGMENTS>());
    call.ahead =
        chunks_ahead(d->cuda->ahead_bytes, min(known_tiles<FRAGMENTS, Side>(call), (int)most));
    LAUNCH_EARLY(d, (ffn_stream<T, FRAGMENTS, Side>), (unsigned)(tiles < most ? tiles : most),
                 STREAM_WARPS * WARP_SIZE, 0, call);
}

template <class T, int FRAGMENTS> static void launch_sides(struct dev *d, const ffn_call &call)
{
    launch_side<T, FRAGMENTS, gate_up_side>(d, call);
    launch_side<T, FRAGMENTS, down_side>(d, call);
}

static void launch_call(struct dev *d, const ffn_call &call, enum dtype type)
{
    int most = 0;
    for (int i = 0; i < call.n_parts; i++)
        most = call.parts[i].n > most ? call.parts[i].n : most;
    if (type == DTYPE_F32)
        launch_sides<float, 1>(d, call);
    else if (type == DTYPE_F16 && most <= FEW_ROWS)
        launch_sides<__half, 1>(d, call);
    else if (type == DTYPE_F16)
        launch_sides<__half, 4>(d, call);
    else if (most <= FEW_ROWS)
        launch_sides<__nv_bfloat16, 1>(d, call);
    else
        launch_sides<__nv_bfloat16, 4>(d, call);
}

size_t ffn_hidden_bytes(const struct ffn_job *job)
{
    const struct matrix *down = &ffn_shape(job)->down;
    return (size_t)ffn_rows(job) * (size_t)row_stride(down->k) * (size_t)dtype_bytes(down->type);
}

ffn_part ffn_part_of(const struct ffn_job *job, void *hidden)
{
    const struct ffn *f = ffn_shape(job);
    return {(const ffn_weights *)job->list->device,
            job->count,
            job->source,
            job->x,
            hidden,
            job->y,
            job->list->n,
            job->n,
            f->down.n,
            row_stride(f->down.n),
            row_stride(f->down.k),
            job->y_type == DTYPE_F32,
            NULL,
            NULL};
}

/* Add a part; parts stay in order of width, the widest first. */
static void insert_part(ffn_call *call, const ffn_part &part)
{
    int at = call->n_parts++;
    for (; at > 0 && call->parts[at - 1].width_stride < part.width_stride; at--)
        call->parts[at] = call->parts[at - 1];
    call->parts[at] = part;
}

/* Whether a job goes to ffn_many.cu. The grouped kernel there needs tensor cores, which f32 models
 * cannot use; so f32 jobs with counts stay here, and those without go to cuBLAS. Quantised weights
 * have kernels that take any number of rows. A job without rows may have an empty list. */
static bool is_many(const struct ffn_job *job)
{
    if (ffn_rows(job) == 0 || job->list->n == 0)
        return false;
    if (ffn_shape(job)->down.quant ||
        (ffn_shape(job)->down.type == DTYPE_F32 && (job->count || job->source)))
        return false;
    return job->n > STREAM_ROWS && ffn_rows(job) > MEAN_ROWS * job->list->n;
}

/* Run the jobs of few rows from the first on, as many as the scratch and ffn_call have room for.
 * Returns how many that are. */
static int run_together(struct dev *d, const struct ffn_job *jobs, int n_jobs)
{
    ffn_call call = {};
    size_t used = 0;
    const struct matrix *like = NULL; // of the jobs that have rows: all are of one type
    int i = 0;
    for (; i < n_jobs && call.n_parts < MOST_PARTS && !is_many(&jobs[i]); i++) {
        if (ffn_rows(&jobs[i]) == 0 || jobs[i].list->n == 0)
            continue;
        size_t bytes = ffn_hidden_bytes(&jobs[i]) + quant_job_bytes(&jobs[i]);
        CHECK(bytes <= d->scratch_bytes, "%d rows in %zu bytes of scratch", jobs[i].n,
              d->scratch_bytes);
        if (used + bytes > d->scratch_bytes)
            break;
        ffn_part part = ffn_part_of(&jobs[i], (char *)d->scratch + used);
        quant_part_open(&part, &jobs[i]);
        insert_part(&call, part);
        like = &ffn_shape(&jobs[i])->down;
        used += bytes;
    }
    if (like && like->quant)
        quant_ffn_call(d, call, like->type, like->quant);
    else if (like)
        launch_call(d, call, like->type);
    return i;
}

void cuda_ffn(struct dev *d, const struct ffn_job *jobs, int n_jobs)
{
    int i = 0;
    while (i < n_jobs && cuda_works(d))
        if (is_many(&jobs[i]))
            ffn_many(d, &jobs[i++]);
        else
            i += run_together(d, jobs + i, n_jobs - i);
}

/* A list is opened once; its device memory lasts until the device is closed. */
void cuda_ffn_list_open(struct dev *d, struct ffn_list *list)
{
    size_t bytes = (size_t)list->n * sizeof(ffn_weights);
    list->device = cuda_alloc(d, bytes);
    ffn_weights *blocks = (ffn_weights *)malloc(bytes);
    CHECK_MEMORY(blocks, "no memory for %d blocks", list->n);
    for (int i = 0; i < list->n; i++)
        blocks[i] = {list->ffns[i].gate_up.data, list->ffns[i].down.data};
    cuda_upload(d, list->device, blocks, bytes);
    free(blocks);
}

size_t cuda_ffn_scratch_bytes(const struct dev *d, const struct dev_limits *limits)
{
    size_t stride = (size_t)row_stride(limits->ffn_width);
    size_t element = (size_t)dtype_bytes(limits->type),
           hidden = (size_t)limits->rows * stride * element;
    size_t pieces = (size_t)limits->piece_rows * (size_t)limits->pieces *
                    (size_t)row_stride(limits->piece_width) * element;
    size_t dense = ffn_dense_bytes(d, limits->type, limits->piece_rows, limits->piece_width);
    if (limits->quantised) {
        hidden += quant_experts_bytes(limits);
        pieces += quant_pieces_bytes(limits);
    }
    hidden = pieces > hidden ? pieces : hidden;
    return hidden > dense ? hidden : dense;
}
