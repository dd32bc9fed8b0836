/* The versions of the libraries that model/ uses, for --version. */
#pragma once

/* "PCRE2 10.42, utf8proc 2.8.0"; static. */
const char *model_libraries(void);
