/* tokenizer.json, and after the first zero byte a text for it. */
#include <stdint.h>

#include "base/log.h"
#include "tests/fuzz/fuzz_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *json = (const char *)data;
    const char *zero = size ? memchr(data, 0, size) : NULL;
    size_t json_bytes = zero ? (size_t)(zero - json) : size;
    struct tokenizer *t;
    error_capture(true);
    if (tokenizer_parse(&t, json, json_bytes, "fuzz") != 0)
        return 0;
    check_text(t, sample_text, sizeof sample_text); // with its 0
    if (zero)
        check_text(t, zero + 1, size - json_bytes - 1);
    tokenizer_close(t);
    return 0;
}
