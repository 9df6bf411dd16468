#!/usr/bin/env bash
# Install what is missing and run the tests; arguments go to pytest. --all adds the long ones.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
export RAY_USAGE_STATS_ENABLED=0 RAY_worker_niceness=0 OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
arguments=() tier=(-m "not long")
for argument in "$@"; do
  if [[ $argument == --all ]]; then tier=(); else arguments+=("$argument"); fi
done
exec .venv/bin/python -m pytest "${tier[@]}" "${arguments[@]}"
