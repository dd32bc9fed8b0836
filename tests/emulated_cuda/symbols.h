/* The program's own symbols, from its file: which variables are __shared__, what a kernel's full
 * name is. A program that has been stripped has none, and shared memory is then not spoilt. */
#pragma once

#include <stddef.h>
#include <string>
#include <vector>

namespace emulated
{

struct shared_variable {
    char *at;
    size_t bytes, index; // of all such bytes, those before it
    const char *symbol;
};

const std::vector<shared_variable> &shared_variables(); // by address

/* The program in memory. */
const char *program_start();
size_t program_bytes();

/* The mangled name of the function that begins at an address, or null. */
const char *symbol_of(const void *function);

/* Bytes of the __shared__ variables that a kernel declares itself (not its callees). */
size_t static_shared_bytes(const void *kernel);

/* "decode_split<__half, 4>", or `otherwise` where the symbols do not say. */
std::string kernel_name(const void *kernel, const char *otherwise);

} // namespace emulated
