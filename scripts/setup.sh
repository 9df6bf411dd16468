#!/usr/bin/env bash
# Make .venv with everything that runs the pool on a CPU. Skips what is done; prints what it does.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=.venv
stamp=$venv/.fastserve-setup
want=$(cat pyproject.toml scripts/setup.sh scripts/install_locked.sh locks/torch-cpu.lock locks/dev.lock | sha256sum | cut -d' ' -f1)
[[ -f $stamp && $(<"$stamp") == "$want" ]] && exit 0

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
  || { echo "FastServe needs Python 3.11 or newer; '$python' is $("$python" -V). Set PYTHON to one." >&2; exit 1; }

[[ -x $venv/bin/python ]] || { echo "== making $venv"; "$python" -m venv "$venv"; }
echo "== installing PyTorch, the CPU engine and all else that locks/dev.lock has"
bash scripts/install_locked.sh dev "$venv/bin/python"
echo "== installing FastServe"
"$venv/bin/python" -m pip --disable-pip-version-check install -q --no-deps --no-build-isolation -e .
echo "$want" > "$stamp"
