# CUDA: AUTO builds the GPU's kernels if nvcc is found, ON fails without nvcc, OFF builds none,
# EMULATED compiles the same sources with the C++ compiler against tests/emulated_cuda.
# Sets EPMOE_CUDA_BUILD to ON, OFF or EMULATED.
set(EPMOE_CUDA AUTO CACHE STRING "CUDA kernels: AUTO, ON, OFF or EMULATED")
set_property(CACHE EPMOE_CUDA PROPERTY STRINGS AUTO ON OFF EMULATED)
set(EPMOE_CUDA_OLDEST 12.5)
option(EPMOE_RACES "With EMULATED: look for races in shared memory (see tests/emulated_cuda)" OFF)

function(epmoe_find_nvcc)
  if(NOT DEFINED ENV{CUDACXX} AND NOT CMAKE_CUDA_COMPILER)
    find_program(EPMOE_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH /usr/local/cuda PATH_SUFFIXES bin)
    if(EPMOE_NVCC)
      set(CMAKE_CUDA_COMPILER ${EPMOE_NVCC} CACHE FILEPATH "The CUDA compiler")
    endif()
  endif()
endfunction()

macro(epmoe_enable_cuda)
  # machine code for A100 and H100, PTX for later GPUs
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES "80-real;90-real;90-virtual")
  endif()
  enable_language(CUDA)
  set(CMAKE_CUDA_STANDARD 17)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS EPMOE_CUDA_OLDEST)
    message(FATAL_ERROR "CUDA ${CMAKE_CUDA_COMPILER_VERSION} found, ${EPMOE_CUDA_OLDEST} is the "
                        "oldest that is supported; -DEPMOE_CUDA=OFF builds without")
  endif()
  find_package(CUDAToolkit REQUIRED)
endmacro()

set(EPMOE_CUDA_BUILD ${EPMOE_CUDA})
if(EPMOE_CUDA STREQUAL AUTO)
  include(CheckLanguage)
  epmoe_find_nvcc()
  check_language(CUDA)
  set(EPMOE_CUDA_BUILD OFF)
  if(CMAKE_CUDA_COMPILER)
    set(EPMOE_CUDA_BUILD ON)
  endif()
endif()

if(EPMOE_CUDA_BUILD STREQUAL EMULATED)
  enable_language(CXX)
  add_compile_definitions(EPMOE_CUDA_BUILD=1 EPMOE_EMULATED=1)
  set(EPMOE_EMULATED_OPTIONS -Wno-unknown-pragmas) # #pragma unroll is known to nvcc only
  if(EPMOE_RACES) # makes the compiler insert a call before every access; tests/emulated_cuda has them
    list(APPEND EPMOE_EMULATED_OPTIONS -fsanitize=thread)
  endif()
elseif(EPMOE_CUDA_BUILD)
  epmoe_find_nvcc()
  epmoe_enable_cuda()
  add_compile_definitions(EPMOE_CUDA_BUILD=1)
endif()
set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
message(STATUS "CUDA: ${EPMOE_CUDA_BUILD}")
