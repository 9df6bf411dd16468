#!/usr/bin/env bash
# usage: image.sh cpu|gpu [PYTHON]   the steps of the image: FastServe and its engine into PYTHON's environment
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:?cpu or gpu} python=${2:-python}
pip() { "$python" -m pip --disable-pip-version-check install -q "$@"; }
case $target in
  cpu)
    pip 'torch==2.13.0+cpu' 2>/dev/null || pip 'torch==2.13.0+cpu' --index-url https://download.pytorch.org/whl/cpu
    bash scripts/install_cpu_engine.sh "$python"
    pip '.[postgres]'
    ;;
  gpu) pip '.[gpu,postgres]' ;;
  *) echo "Target '$target' is not known. Known: cpu, gpu." >&2; exit 2 ;;
esac
cd /  # the installed package, not the files here
"$python" -m deployments.shipped cluster.yaml
"$python" -c 'import vllm, serve_app.app'
