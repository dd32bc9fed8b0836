# The commit a binary was built from, for --version and for benchmarks: asked at every build, so
# that it never lies; the header only changes when the answer does.
add_custom_target(commit ALL
  COMMAND ${CMAKE_COMMAND} -DSOURCE=${CMAKE_SOURCE_DIR} -DOUT=${CMAKE_BINARY_DIR}/commit.h
          -DVERSION=${PROJECT_VERSION} -P ${CMAKE_SOURCE_DIR}/cmake/commit.cmake
  BYPRODUCTS ${CMAKE_BINARY_DIR}/commit.h)
add_dependencies(launch commit)
add_dependencies(study commit)
