/* What a user may have meant by a word that is none of those expected. */
#pragma once

struct spelling {
    const char *word; // as the user wrote it
    const char *best; // the candidate that is most like it; NULL: none is like it
    int distance;     // of best
};

/* Look at one more candidate; it is kept if few letters differ, or if one begins with the other. */
void spelling_try(struct spelling *s, const char *candidate);
