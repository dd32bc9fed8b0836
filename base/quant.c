#include "base/quant.h"

#include <stdio.h>

struct precision_words precision_text(const struct precision *p)
{
    struct precision_words t;
    const char *matrices = weight_name(p->type, p->matrices);
    if (p->blocks == p->matrices)
        snprintf(t.text, sizeof t.text, "%s", matrices);
    else
        snprintf(t.text, sizeof t.text, "%s/%s", matrices, weight_name(p->type, p->blocks));
    return t;
}
