#include "model/pieces.h"

#include "kernels/kernels.h"

static int dense_width(const struct config *m, int layer)
{
    return m->sparse[layer] ? m->shared_dim : m->ffn_dim;
}

/* Up to twice as many pieces as are wanted, if that many divide the block into whole rows. */
static int count_pieces(int width, int wanted)
{
    int rows = width / ROW_ALIGN;
    for (int n = wanted; n < 2 * wanted && width % ROW_ALIGN == 0; n++)
        if (rows % n == 0)
            return n;
    return wanted;
}

struct pieces pieces_of(const struct config *m, int layer)
{
    int width = dense_width(m, layer), about = m->sparse[layer] ? m->expert_dim : PIECE_WIDTH;
    if (width == 0)
        return (struct pieces){0, 0};
    int wanted = count_pieces(width, (width + about - 1) / about);
    int each = row_stride((width + wanted - 1) / wanted);
    return (struct pieces){(width + each - 1) / each, each};
}

int piece_values(const struct config *m, int layer, int p)
{
    int each = pieces_of(m, layer).width, left = dense_width(m, layer) - p * each;
    return left < each ? left : each;
}

int pieces_most(const struct config *m)
{
    int most = 0;
    for (int l = 0; l < m->n_layers; l++)
        most = pieces_of(m, l).n > most ? pieces_of(m, l).n : most;
    return most;
}

int pieces_widest(const struct config *m)
{
    int widest = 0;
    for (int l = 0; l < m->n_layers; l++)
        widest = pieces_of(m, l).width > widest ? pieces_of(m, l).width : widest;
    return widest;
}

int pieces_total(const struct config *m)
{
    int sum = 0;
    for (int l = 0; l < m->n_layers; l++)
        sum += pieces_of(m, l).n;
    return sum;
}
