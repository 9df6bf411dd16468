#!/usr/bin/env bash
# usage: chaos.sh [--minutes N] [--json FILE] ...   a private pool under load while its processes are killed and stopped,
# one every ten seconds (3 minutes by default, 30 before a release); the last line is the verdict.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh >&2
if .venv/bin/python scripts/bench.py chaos "$@"; then
  echo "PASSED: the pool kept its promises."
else
  echo "FAILED: a bar above is not met."
  exit 1
fi
