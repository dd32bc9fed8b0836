#include "model/libraries.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

const char *model_libraries(void)
{
    static _Thread_local char text[128];
    char pcre2[64] = "";
    pcre2_config(PCRE2_CONFIG_VERSION, pcre2);
    pcre2[strcspn(pcre2, " ")] = 0; // leave out the date of "10.42 2022-12-11"
    snprintf(text, sizeof text, "PCRE2 %s, utf8proc %s", pcre2, utf8proc_version());
    return text;
}
