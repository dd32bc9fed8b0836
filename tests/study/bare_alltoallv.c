/* A loop of MPI_Alltoallv and nothing else, to compare `epmoe alltoall` with:
 *   mpirun -n N bare_alltoallv MATRIX WARMUP LAPS
 * MATRIX has N rows of N byte counts. Rank 0 prints the bytes of a lap between different ranks, and
 * the median of the laps' times, each being that of the slowest rank. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

struct side {
    int rank, ranks;
    int *out, *in, *out_at, *in_at; // [ranks] bytes, and where they begin
    char *from, *to;
};

static long between; // bytes of a lap

static void read_matrix(struct side *s, const char *path)
{
    FILE *f = fopen(path, "r");
    for (int i = 0; i < s->ranks; i++)
        for (int j = 0; j < s->ranks; j++) {
            int bytes;
            if (!f || fscanf(f, "%d", &bytes) != 1) {
                fprintf(stderr, "%s: expected %d x %d numbers\n", path, s->ranks, s->ranks);
                MPI_Abort(MPI_COMM_WORLD, 3);
                exit(3);
            }
            between += i == j ? 0 : bytes;
            if (i == s->rank)
                s->out[j] = bytes;
            if (j == s->rank)
                s->in[i] = bytes;
        }
    fclose(f);
}

static void open_side(struct side *s)
{
    size_t out = 1, in = 1;
    for (int r = 0; r < s->ranks; r++) {
        s->out_at[r] = (int)out - 1;
        s->in_at[r] = (int)in - 1;
        out += (size_t)s->out[r];
        in += (size_t)s->in[r];
    }
    s->from = calloc(out, 1);
    s->to = calloc(in, 1);
    for (int r = 0; r < s->ranks; r++)
        for (int i = 0; i < s->out[r]; i++)
            s->from[s->out_at[r] + i] = (char)(s->rank * 7 + r * 3 + i);
}

/* Every byte that should have come is here. */
static int is_right(const struct side *s)
{
    for (int r = 0; r < s->ranks; r++)
        for (int i = 0; i < s->in[r]; i++)
            if (s->to[s->in_at[r] + i] != (char)(r * 7 + s->rank * 3 + i))
                return 0;
    return 1;
}

static double run_lap(struct side *s)
{
    double time, slowest;
    MPI_Barrier(MPI_COMM_WORLD);
    time = MPI_Wtime();
    MPI_Alltoallv(s->from, s->out, s->out_at, MPI_BYTE, s->to, s->in, s->in_at, MPI_BYTE,
                  MPI_COMM_WORLD);
    time = MPI_Wtime() - time;
    MPI_Reduce(&time, &slowest, 1, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
    return slowest;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    struct side s = {0};
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &s.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &s.ranks);
    int warmup = argc > 3 ? atoi(argv[2]) : 0, laps = argc > 3 ? atoi(argv[3]) : 1;
    int *lists = calloc(4 * (size_t)s.ranks, sizeof *lists);
    double *times = calloc((size_t)laps, sizeof *times);
    s.out = lists;
    s.in = lists + s.ranks;
    s.out_at = s.in + s.ranks;
    s.in_at = s.out_at + s.ranks;
    read_matrix(&s, argv[1]);
    open_side(&s);
    for (int i = 0; i < warmup + laps; i++)
        times[i < warmup ? 0 : i - warmup] = run_lap(&s);
    int right = is_right(&s), all;
    MPI_Reduce(&right, &all, 1, MPI_INT, MPI_MIN, 0, MPI_COMM_WORLD);
    qsort(times, (size_t)laps, sizeof *times, ascending);
    if (s.rank == 0)
        printf("bytes %ld us %.2f %s\n", between, times[laps / 2] * 1e6, all ? "right" : "wrong");
    free(s.from);
    free(s.to);
    free(lists);
    free(times);
    MPI_Finalize();
    return 0;
}
