/* What config.json says of positions: how they turn queries and keys, and which a layer sees. */
#include "model/config_attention.h"

#include <math.h>
#include <stdio.h>

#include "base/log.h"
#include "model/family.h"
#include "model/rope.h"

/* The dictionary that describes rotary embedding, and its name. */
struct rope_source {
    const struct config_source *file;
    const char *name;
    const struct js *dictionary;
};

/* *out := a number of the dictionary; it stays as it is if there is none. */
static int read_in(const struct rope_source *s, const char *name, double least, double most,
                   double *out)
{
    char key[64];
    struct config_source inside = {s->dictionary, s->file->file};
    snprintf(key, sizeof key, "%s.%s", s->name, name);
    return source_real(s->file, key, source_value(&inside, name), least, most, out);
}

/* What YaRN multiplies cosines and sines by, so that attention stays as sharp over a longer text.
 */
static double yarn_scale(double factor, double m)
{
    return factor <= 1 ? 1 : 0.1 * m * log(factor) + 1;
}

/* Read the number of positions in training. A value outside the dictionary takes precedence. */
static int read_original(const struct rope_source *s, struct config *c)
{
    static const char name[] = "original_max_position_embeddings";
    char key[64];
    struct config_source inside = {s->dictionary, s->file->file};
    const struct js *original = source_value(&inside, name);
    snprintf(key, sizeof key, "%s.%s", s->name, name);
    if (original && source_check_int(s->file, key, original, 1, MAX_POSITIONS) != 0)
        return STATUS_BAD_FILE;
    c->rope.original = original ? (int)js_int(original) : c->max_positions;
    return source_value(s->file, name)
               ? source_int(s->file, name, 1, MAX_POSITIONS, &c->rope.original)
               : 0;
}

/* Set YaRN's factor of cosines and sines: `attention` if it is not negative, else from the two
 * mscales if both are there. */
static void set_yarn(struct config *c, double attention, double mscale, double all)
{
    struct rope_scaling *r = &c->rope;
    double reach = r->factor * r->original;
    if (attention >= 0)
        r->attention = attention;
    else if (mscale != 0 && all != 0)
        r->attention = yarn_scale(r->factor, mscale) / yarn_scale(r->factor, all);
    else
        r->attention = yarn_scale(r->factor, 1);
    if (reach > c->max_positions)
        c->max_positions = reach < MAX_POSITIONS ? (int)reach : MAX_POSITIONS;
}

static int read_yarn(const struct rope_source *s, struct config *c)
{
    struct rope_scaling *r = &c->rope;
    double attention = -1, mscale = 0, all = 0;
    const struct {
        const char *name;
        double least, most, *out;
    } numbers[] = {
        {"beta_fast", 1e-3, 1e6, &r->fast},       {"beta_slow", 1e-3, 1e6, &r->slow},
        {"attention_factor", 0, 1e3, &attention}, {"mscale", 0, 1e3, &mscale},
        {"mscale_all_dim", 0, 1e3, &all},
    };
    struct config_source inside = {s->dictionary, s->file->file};
    r->fast = 32;
    r->slow = 1;
    r->truncate = true;
    if (c->rope_theta <= 1)
        return fail(STATUS_BAD_FILE, "%s: rope_theta: expected more than 1 for yarn, found %g",
                    s->file->file, c->rope_theta);
    int status = read_original(s, c);
    if (!status && js_is_null(js_member(s->dictionary, "factor")))
        r->factor = (double)c->max_positions / r->original;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers && !status; i++)
        status = read_in(s, numbers[i].name, numbers[i].least, numbers[i].most, numbers[i].out);
    if (!status)
        status = source_bool(&inside, "truncate", &r->truncate);
    if (!status)
        set_yarn(c, attention, mscale, all);
    return status;
}

/* Check what dynamic scaling needs. Transformers uses max_position_embeddings as the length of
 * training, so another original length is refused. */
static int check_dynamic(const struct rope_source *s, struct config *c)
{
    int status = read_original(s, c);
    if (!status && c->rope.original != c->max_positions)
        status = fail(STATUS_BAD_FILE,
                      "%s: %s.original_max_position_embeddings: expected none, or "
                      "max_position_embeddings = %d, in dynamic scaling, found %d",
                      s->file->file, s->name, c->max_positions, c->rope.original);
    if (!status && c->head_dim <= 2)
        status = fail(STATUS_BAD_FILE, "%s: head_dim: expected more than 2 for dynamic scaling",
                      s->file->file);
    return status;
}

static int read_scaling(const struct rope_source *s, struct config *c)
{
    struct rope_scaling *r = &c->rope;
    if (r->type == ROPE_DEFAULT)
        return 0;
    const struct js *factor = js_member(s->dictionary, "factor");
    if (!factor || (js_is_null(factor) && r->type != ROPE_YARN))
        return fail(STATUS_BAD_FILE, "%s: %s.factor: expected a number for type \"%s\", found %s",
                    s->file->file, s->name, rope_type_name(r->type), factor ? "null" : "none");
    r->factor = 1;
    int status = read_in(s, "factor", 1, 1e6, &r->factor);
    if (!status && r->type == ROPE_YARN)
        status = read_yarn(s, c);
    if (!status && r->type == ROPE_DYNAMIC)
        status = check_dynamic(s, c);
    return status;
}

/* The dictionary of the 5 form, or rope_scaling of the 4 form, which wins when it says anything. */
static int read_rope_dictionary(const struct config_source *s, const char *name,
                                const struct js *rope, struct config *c)
{
    static const char *const nested[] = {"full_attention", "sliding_attention"};
    char key[64];
    if (!js_is_object(rope))
        return source_expected(s, name, "an object", rope);
    struct config_source inside = {rope, s->file};
    const struct js *type = source_value(&inside, "rope_type");
    snprintf(key, sizeof key, "%s.%s", name, type ? "rope_type" : "type");
    if (!type)
        type = source_value(&inside, "type");
    int t = ROPE_DEFAULT;
    while (type && t <= ROPE_YARN && !source_is_text(type, rope_type_name((enum rope_type)t)))
        t++;
    if (t > ROPE_YARN)
        return source_expected(s, key, "\"default\", \"linear\", \"dynamic\" or \"yarn\"", type);
    c->rope.type = (enum rope_type)t;
    for (size_t i = 0; i < sizeof nested / sizeof *nested; i++) {
        snprintf(key, sizeof key, "%s.%s", name, nested[i]);
        if (js_member(rope, nested[i]))
            return source_expected(s, key, "none (one rope for all layers)",
                                   js_member(rope, nested[i]));
    }
    snprintf(key, sizeof key, "%s.partial_rotary_factor", name);
    double factor = 1;
    int status = source_real(s, key, source_value(&inside, "partial_rotary_factor"), 1, 1, &factor);
    if (!status)
        status =
            read_in(&(struct rope_source){s, name, rope}, "rope_theta", 1, 1e12, &c->rope_theta);
    return status ? status : read_scaling(&(struct rope_source){s, name, rope}, c);
}

int config_read_rope(const struct config_source *s, struct config *c)
{
    double factor = 1;
    const char *name = "rope_scaling";
    const struct js *rope = source_value(s, name);
    if (!rope || (js_is_object(rope) && js_count(rope) == 0)) {
        name = "rope_parameters";
        rope = source_value(s, name);
    }
    const struct js *theta = js_member(s->root, "rope_theta");
    if (js_is_null(theta) && js_is_number(js_member(rope, "rope_theta")))
        theta = NULL; // the dictionary's counts
    int status = source_real(s, "rope_theta", theta, 1, 1e12, &c->rope_theta);
    if (!status)
        status = source_real(s, "partial_rotary_factor", source_value(s, "partial_rotary_factor"),
                             1, 1, &factor);
    return status || !rope ? status : read_rope_dictionary(s, name, rope, c);
}

/* layer_types of the 5 form: one word a layer, and all of them full attention. */
static int check_layer_types(const struct config_source *s, struct config *c)
{
    const struct js *types = source_value(s, "layer_types");
    if (!types)
        return 0;
    if (!js_is_array(types))
        return source_expected(s, "layer_types", "a list", types);
    if (js_count(types) != (size_t)c->n_layers)
        return fail(STATUS_BAD_FILE,
                    "%s: layer_types: expected num_hidden_layers = %d entries, found %zu", s->file,
                    c->n_layers, js_count(types));
    for (size_t i = 0; i < js_count(types); i++) {
        const struct js *type = js_item(types, i);
        if (!source_is_text(type, "full_attention") && !source_is_text(type, "attention"))
            return source_expected(s, "layer_types", "\"full_attention\"", type);
    }
    return 0;
}

/* The first layer that sees only a window of the text; n_layers if none does. In families in which
 * some layers do, layer_types takes precedence; check_layer_types() has refused all but full
 * attention. */
static int first_window(const struct config_source *s, const struct config *c, bool on, int most)
{
    bool listed = source_value(s, "layer_types") != NULL;
    switch (family_of(c)->windows) {
    case WINDOWS_BEFORE:
        return on && !listed && most > 0 ? 0 : c->n_layers;
    case WINDOWS_FROM:
        return on && !listed ? most : c->n_layers;
    case WINDOWS_IF_ON:
        return on ? 0 : c->n_layers;
    case WINDOWS_ALL:
        return 0;
    default:
        return c->n_layers;
    }
}

/* Refuse a model some layer of which would see only a window of the text. A window that no position
 * leaves is noted, since a run may go on for longer than the model says. */
int config_read_windows(const struct config_source *s, struct config *c)
{
    bool on = false, by_default = family_of(c)->windows != WINDOWS_ALL;
    int most = 28, window = 4096, status = check_layer_types(s, c);
    const struct js *size = js_member(s->root, "sliding_window");
    if (!status)
        status = source_bool(s, "use_sliding_window", &on);
    if (!status && on)
        status = source_int(s, "max_window_layers", 0, 1 << 20, &most);
    if (status || (size ? js_is_null(size) : !by_default))
        return status;
    if (first_window(s, c, on, most) >= c->n_layers)
        return 0;
    status = source_int(s, "sliding_window", 0, 1 << 30, &window);
    if (!status && window < c->max_positions)
        status =
            fail(STATUS_BAD_FILE,
                 "%s: sliding_window: expected none, or one of max_position_embeddings = %d or "
                 "more, which never slides; found %d%s",
                 s->file, c->max_positions, window, size ? "" : " (the default)");
    c->window = window;
    return status;
}
