/* Where a file of results is from: the command, the program and the machine. main() says how the
 * program was called before anything is parsed. */
#pragma once

#include "base/json.h"

/* Keep the command line, with each argument as a shell would need it. */
void origin_set(int argc, char **argv);

/* {"command_line", "version", "cpu"}; the caller owns it. Without origin_set() there is no command
 * line. */
struct js *origin_json(void);
