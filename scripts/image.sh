#!/usr/bin/env bash
# usage: image.sh cpu|gpu [PYTHON]   the steps of the image: FastServe and its engine into PYTHON's environment
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:?cpu or gpu} python=${2:-python}
case $target in
  cpu | gpu) bash scripts/install_locked.sh "$target" "$python" ;;
  *) echo "Target '$target' is not known. Known: cpu, gpu." >&2; exit 2 ;;
esac
"$python" -m pip --disable-pip-version-check install -q --no-deps --no-build-isolation .
cd /  # the installed package, not the files here
"$python" -m deployments.shipped cluster.yaml
"$python" -c 'import vllm, serve_app.app'
