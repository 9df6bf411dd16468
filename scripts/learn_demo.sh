#!/usr/bin/env bash
# Fresh state, the real CPU pool, and only traffic: watch the loop evaluate, train, gate and promote by itself.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
bash "$here/scripts/setup.sh"
cd "$here"
exec .venv/bin/python scripts/bench.py learn_demo --json benchmarks/learn_demo.json --plot benchmarks/learn_demo.png "$@"
