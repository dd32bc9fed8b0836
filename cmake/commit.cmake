execute_process(COMMAND git -C ${SOURCE} rev-parse --short=12 HEAD
                OUTPUT_VARIABLE hash OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
execute_process(COMMAND git -C ${SOURCE} status --porcelain --untracked-files=no
                OUTPUT_VARIABLE changed ERROR_QUIET)
if(NOT hash)
  set(hash "unknown")
elseif(changed)
  string(APPEND hash "+")
endif()
file(WRITE ${OUT}.new "#define EPMOE_VERSION \"${VERSION}\"\n#define EPMOE_COMMIT \"${hash}\"\n")
execute_process(COMMAND ${CMAKE_COMMAND} -E copy_if_different ${OUT}.new ${OUT})
