#!/usr/bin/env bash
# Start the pool of cluster.yaml on this machine; --check sends real requests, prints a table and stops.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
bash "$here/scripts/setup.sh" >&2
cd "$here"
command=up arguments=()
for argument in "$@"; do
  if [[ $argument == --check ]]; then command=check; else arguments+=("$argument"); fi
done
exec .venv/bin/python -m serve_app "$command" "${arguments[@]}"
