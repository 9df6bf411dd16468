#!/usr/bin/env bash
# Lint, formatting, types, the import layers, and the rules that tests keep to.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
.venv/bin/python -m pytest -q tests/test_layers.py tests/test_tests.py
