#include "symbols.h"

#include <algorithm>
#include <cxxabi.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "report.h"

namespace emulated
{

/* Where the program lies, against what its file says: it is the first that dl_iterate_phdr names.
 */
static uintptr_t program_bias()
{
    uintptr_t bias = 0;
    dl_iterate_phdr(
        [](dl_phdr_info *info, size_t, void *to) {
            *(uintptr_t *)to = info->dlpi_addr;
            return 1;
        },
        &bias);
    return bias;
}

extern "C" char __executable_start[], end[]; // the linker's

const char *program_start()
{
    return __executable_start;
}

size_t program_bytes()
{
    return (size_t)(end - __executable_start);
}

static const char *program_file()
{
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    struct stat s;
    if (fd < 0 || fstat(fd, &s) < 0)
        die("cannot read the program's own symbols");
    void *file = mmap(nullptr, (size_t)s.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (file == MAP_FAILED)
        die("cannot map the program's own symbols");
    close(fd);
    return (const char *)file;
}

/* f(address, bytes, type, name) for every symbol. */
template <class F> static void each_symbol(F f)
{
    static const char *file = program_file();
    const ElfW(Ehdr) *header = (const ElfW(Ehdr) *)file;
    const ElfW(Shdr) *sections = (const ElfW(Shdr) *)(file + header->e_shoff);
    uintptr_t bias = program_bias();
    for (int i = 0; i < header->e_shnum; i++) {
        if (sections[i].sh_type != SHT_SYMTAB)
            continue;
        const char *names = file + sections[sections[i].sh_link].sh_offset;
        const ElfW(Sym) *s = (const ElfW(Sym) *)(file + sections[i].sh_offset);
        for (size_t n = sections[i].sh_size / sizeof *s; n--; s++)
            f(bias + s->st_value, s->st_size, ELF64_ST_TYPE(s->st_info), names + s->st_name);
    }
}

const std::vector<shared_variable> &shared_variables()
{
    static const std::vector<shared_variable> all = [] {
        std::vector<shared_variable> found;
        each_symbol([&](uintptr_t at, size_t bytes, int type, const char *name) {
            if (type == STT_OBJECT && strncmp(name, "_ZZ", 3) == 0 &&
                strstr(name, "B15emulated_shared"))
                found.push_back({(char *)at, bytes, 0, name});
        });
        std::sort(found.begin(), found.end(),
                  [](const auto &a, const auto &b) { return a.at < b.at; });
        for (size_t i = 1; i < found.size(); i++)
            found[i].index = found[i - 1].index + found[i - 1].bytes;
        return found;
    }();
    return all;
}

const char *symbol_of(const void *function)
{
    const char *found = nullptr;
    each_symbol([&](uintptr_t at, size_t, int type, const char *name) {
        if (type == STT_FUNC && at == (uintptr_t)function)
            found = name;
    });
    return found;
}

/* A kernel's own variables are called _ZZ<what the kernel is called after _Z>E<name>. */
size_t static_shared_bytes(const void *kernel)
{
    const char *symbol = symbol_of(kernel);
    size_t bytes = 0;
    if (!symbol || strncmp(symbol, "_Z", 2) != 0)
        return 0;
    std::string prefix = std::string("_ZZ") + (symbol + 2) + "E";
    for (const shared_variable &v : shared_variables())
        if (strncmp(v.symbol, prefix.c_str(), prefix.size()) == 0)
            bytes += v.bytes;
    return bytes;
}

/* Of "void k<float>(float*)" the middle. */
static std::string without_types(std::string name)
{
    int depth = 0;
    for (size_t i = 0; i < name.size(); i++) {
        depth += name[i] == '<';
        depth -= name[i] == '>';
        if (depth == 0 && name[i] == '(') {
            name.resize(i);
            break;
        }
    }
    return name.compare(0, 5, "void ") == 0 ? name.substr(5) : name;
}

std::string kernel_name(const void *kernel, const char *otherwise)
{
    const char *symbol = symbol_of(kernel);
    char *plain = symbol ? abi::__cxa_demangle(symbol, nullptr, nullptr, nullptr) : nullptr;
    std::string name = plain ? without_types(plain) : otherwise;
    free(plain);
    return name;
}

} // namespace emulated
