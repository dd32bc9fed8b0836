/* What a user may have meant by a word that is none of those expected. */
#pragma once

struct spelling {
    const char *word; // as the user wrote it
    const char *best; // the candidate that is most like it; NULL: none is like it
    int distance;     // of best
    char hint[64];    // see spelling_hint()
};

/* Look at one more candidate; it is kept if few letters differ, or if one begins with the other. */
void spelling_try(struct spelling *s, const char *candidate);
/* What an error says at its end, in s->hint: "; did you mean BEST?", or "". */
const char *spelling_hint(struct spelling *s);
