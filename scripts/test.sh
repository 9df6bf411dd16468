#!/usr/bin/env bash
# Install what is missing and run the tests; arguments go to pytest. --all adds the long ones and those of real time,
# --timing runs only those of real time, which want the machine for themselves.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
export RAY_USAGE_STATS_ENABLED=0 RAY_worker_niceness=0 OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
arguments=() tier=(-m "not long and not timing")
for argument in "$@"; do
  case $argument in
    --all) tier=() ;;
    --timing) tier=(-m "timing and not long") ;;
    *) arguments+=("$argument") ;;
  esac
done
exec .venv/bin/python -m pytest --durations=20 "${tier[@]}" "${arguments[@]}"
