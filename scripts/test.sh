#!/usr/bin/env bash
# Install what is missing and run the tests: first those of one process, two files at a time, then those that start a
# cluster or an engine, one after the other. Arguments go to pytest. --all adds the long tests and those of real time;
# --timing runs only those of real time, which want the machine for themselves. Each part lists its slowest twenty.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
bash scripts/install_browser.sh
bash scripts/install_postgres.sh
bash scripts/install_prometheus.sh
export RAY_USAGE_STATS_ENABLED=0 RAY_worker_niceness=0 OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
arguments=() tier="not long and not timing" status=0 empty=0
for argument in "$@"; do
  case $argument in
    --all) tier="long or not long" ;;
    --timing) tier="timing and not long" ;;
    *) arguments+=("$argument") ;;
  esac
done

part() {
  local code=0
  .venv/bin/python -m pytest --durations=20 "$@" "${arguments[@]}" || code=$?
  if [[ $code == 5 ]]; then empty=$((empty + 1)); elif [[ $code != 0 ]]; then status=$code; fi
}

echo "== tests of one process"
part -n 2 --dist loadfile -m "not integration and not vllm and ($tier)"
echo "== tests with a cluster or an engine"
part -m "(integration or vllm) and ($tier)"
[[ $empty == 2 ]] && exit 5  # no test is what was asked for
exit "$status"
