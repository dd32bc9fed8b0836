#!/usr/bin/env bash
# clang-format decides; the generated and the foreign have no place in this tree.
set -euo pipefail
cd "$(dirname "$0")/../.."
command -v clang-format >/dev/null || {
    echo "skipped: clang-format is not installed"
    exit 77
}
git ls-files '*.c' '*.h' '*.cu' '*.cuh' '*.cc' | xargs clang-format --dry-run -Werror
echo "format: clean"
