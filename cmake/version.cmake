# commit.h has the commit that a binary is built from, for --version and for benchmarks. Every build
# asks git anew; the header is rewritten only when the commit has changed.
add_custom_target(commit ALL
  COMMAND ${CMAKE_COMMAND} -DSOURCE=${CMAKE_SOURCE_DIR} -DOUT=${CMAKE_BINARY_DIR}/commit.h
          -DVERSION=${PROJECT_VERSION} -P ${CMAKE_SOURCE_DIR}/cmake/commit.cmake
  BYPRODUCTS ${CMAKE_BINARY_DIR}/commit.h)
add_dependencies(launch commit)
add_dependencies(study commit)
