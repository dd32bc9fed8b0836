/* Preloaded into the ranks of a run (LD_PRELOAD): counts, below the program, the bytes that a rank
 * hands to MPI for other ranks as rows (transport/mpi_state.h), or in MPI_Alltoallv. At the end
 * each rank writes "rank bytes" to a file of its own, METER.rank. */
#include "transport/mpi_state.h" // TAG_ROWS, and mpi.h
#include <stdio.h>
#include <stdlib.h>

static unsigned long long sent;

int MPI_Isend(const void *buffer, int n, MPI_Datatype type, int to, int tag, MPI_Comm comm,
              MPI_Request *request)
{
    if (tag >= TAG_ROWS)
        sent += (unsigned long long)n;
    return PMPI_Isend(buffer, n, type, to, tag, comm, request);
}

int MPI_Alltoallv(const void *out, const int *counts, const int *at, MPI_Datatype type, void *in,
                  const int *in_counts, const int *in_at, MPI_Datatype in_type, MPI_Comm comm)
{
    int rank, size;
    PMPI_Comm_rank(comm, &rank);
    PMPI_Comm_size(comm, &size);
    for (int r = 0; r < size; r++)
        sent += r == rank ? 0 : (unsigned long long)counts[r];
    return PMPI_Alltoallv(out, counts, at, type, in, in_counts, in_at, in_type, comm);
}

int MPI_Finalize(void)
{
    const char *meter = getenv("METER");
    char path[4096];
    int rank;
    PMPI_Comm_rank(MPI_COMM_WORLD, &rank);
    snprintf(path, sizeof path, "%s.%d", meter ? meter : "meter", rank);
    FILE *f = fopen(path, "w");
    if (!f || fprintf(f, "%d %llu\n", rank, sent) < 0 || fclose(f) != 0)
        fprintf(stderr, "meter: cannot write %s\n", path);
    return PMPI_Finalize();
}
