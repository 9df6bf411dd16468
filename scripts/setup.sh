#!/usr/bin/env bash
# Make .venv with everything that runs the pool on a CPU. Skips what is done; prints what it does.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=.venv
stamp=$venv/.fastserve-setup
want=$(cat pyproject.toml scripts/setup.sh scripts/install_cpu_engine.sh scripts/cpu-engine.lock | sha256sum | cut -d' ' -f1)
[[ -f $stamp && $(<"$stamp") == "$want" ]] && exit 0

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
  || { echo "FastServe needs Python 3.11 or newer; '$python' is $("$python" -V). Set PYTHON to one." >&2; exit 1; }

[[ -x $venv/bin/python ]] || { echo "== making $venv"; "$python" -m venv "$venv"; }
pip="$venv/bin/python -m pip --disable-pip-version-check -q"
echo "== installing PyTorch for CPU"
$pip install 'torch==2.13.0+cpu' 2>/dev/null || $pip install 'torch==2.13.0+cpu' --index-url https://download.pytorch.org/whl/cpu
echo "== installing the CPU engine from its lock file"
bash scripts/install_cpu_engine.sh "$venv/bin/python"
echo "== installing FastServe"
$pip install -e '.[dev]'
echo "$want" > "$stamp"
