#include "shared.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

#include "report.h"
#include "sanitizers.h"

namespace emulated
{

struct shared_variable {
    char *at;
    size_t bytes;
};

static __thread void *open_memory;
static __thread size_t open_bytes;

/* Where the program's symbols lie from what its file says: the first thing dl_iterate_phdr names
 * is the program. */
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

static bool is_tagged(const ElfW(Sym) * symbol, const char *name)
{
    return ELF64_ST_TYPE(symbol->st_info) == STT_OBJECT && strncmp(name, "_ZZ", 3) == 0 &&
           strstr(name, "B15emulated_shared");
}

static void find_in(const char *file, std::vector<shared_variable> *found)
{
    const ElfW(Ehdr) *header = (const ElfW(Ehdr) *)file;
    const ElfW(Shdr) *sections = (const ElfW(Shdr) *)(file + header->e_shoff);
    uintptr_t bias = program_bias();
    for (int i = 0; i < header->e_shnum; i++) {
        if (sections[i].sh_type != SHT_SYMTAB)
            continue;
        const char *names = file + sections[sections[i].sh_link].sh_offset;
        const ElfW(Sym) *symbols = (const ElfW(Sym) *)(file + sections[i].sh_offset);
        for (size_t n = sections[i].sh_size / sizeof *symbols; n--; symbols++)
            if (is_tagged(symbols, names + symbols->st_name))
                found->push_back({(char *)(bias + symbols->st_value), symbols->st_size});
    }
}

/* The __shared__ variables, by the tag in their symbols (see language.h). */
static const std::vector<shared_variable> &variables()
{
    static const std::vector<shared_variable> all = [] {
        std::vector<shared_variable> found;
        int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
        struct stat s;
        if (fd < 0 || fstat(fd, &s) < 0)
            die("cannot read the program's own symbols");
        void *file = mmap(nullptr, (size_t)s.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (file == MAP_FAILED)
            die("cannot map the program's own symbols");
        find_in((const char *)file, &found);
        munmap(file, (size_t)s.st_size);
        close(fd);
        return found;
    }();
    return all;
}

void *shared_open(size_t bytes)
{
    size_t room = (bytes + 1023) / 1024 * 1024;
    open_memory = aligned_alloc(1024, room + 1024);
    open_bytes = bytes;
    if (!open_memory)
        die("no memory for shared memory");
    poison((char *)open_memory + bytes, room + 1024 - bytes);
    return open_memory;
}

void shared_close(void *memory, size_t bytes)
{
    unpoison(memory, (bytes + 1023) / 1024 * 1024 + 1024);
    free(memory);
    open_memory = nullptr;
}

void spoil_shared(void *memory, size_t bytes)
{
    unpoison(memory, bytes);
    memset(memory, 0xff, bytes);
    for (const shared_variable &v : variables())
        memset(v.at, 0xff, v.bytes);
}

bool is_shared(const void *at)
{
    const char *p = (const char *)at, *dynamic = (const char *)open_memory;
    if (dynamic && p >= dynamic && p < dynamic + open_bytes)
        return true;
    for (const shared_variable &v : variables())
        if (p >= v.at && p < v.at + v.bytes)
            return true;
    return false;
}

} // namespace emulated
