#!/usr/bin/env bash
# usage: install_locked.sh NAME [PYTHON]   exactly what locks/NAME.lock has, each file checked by its hash; for CPU with
# PyTorch before it. Nothing is resolved and nothing that a lock lacks is installed; `python -m scripts.lock` makes them.
set -euo pipefail
cd "$(dirname "$0")/.."
name=${1:?name of a lock} python=${2:-.venv/bin/python}
[[ $(uname -s)/$(uname -m) == Linux/x86_64 ]] \
  || { echo "The locks are for Linux on x86-64; this is $(uname -s) on $(uname -m)." >&2; exit 1; }
pip() { "$python" -m pip --disable-pip-version-check install -q --no-deps "$@"; }
torch() { pip "$@" 2>/dev/null || pip "$@" --index-url https://download.pytorch.org/whl/cpu; }
if [[ $name != gpu ]]; then
  if [[ $("$python" -c 'import sys; print(*sys.version_info[:2], sep=".")') == 3.11 ]]; then
    torch --require-hashes -r locks/torch-cpu.lock
  else
    echo "locks/torch-cpu.lock has PyTorch for Python 3.11 only: its hash is not checked here." >&2
    torch torch==2.13.0+cpu
  fi
fi
pip --require-hashes -r "locks/$name.lock"
