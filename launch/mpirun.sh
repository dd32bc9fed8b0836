#!/usr/bin/env bash
# mpirun with Open MPI's traps avoided on one host: works as root, with more ranks than cores
# (yielding instead of spinning), without ssh, and without binding a rank's threads to one core.
#   launch/mpirun.sh -n 5 build/release/epmoe run …
set -euo pipefail

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_hwloc_base_binding_policy=none
command -v ssh >/dev/null || command -v rsh >/dev/null || export OMPI_MCA_plm_rsh_agent=sh
exec mpirun "$@"
