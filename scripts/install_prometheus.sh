#!/usr/bin/env bash
# Put Prometheus and promtool beside the environment's Python, for the tests of dashboards and alerts: taken out of
# Debian's package, not installed, so that no service starts. Where it cannot be had it says why, and those tests are
# skipped.
set -uo pipefail
bin=$(realpath "$(dirname "$0")/../.venv/bin")
command -v prometheus >/dev/null && command -v promtool >/dev/null && exit 0
[[ -x $bin/prometheus && -x $bin/promtool ]] && exit 0
skip() { echo "$1: the tests that run queries and alerts in Prometheus are skipped." >&2; exit 0; }
command -v apt-get >/dev/null || skip "No Prometheus, and no apt-get to have it from"
echo "== fetching Prometheus"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
[[ $(id -u) == 0 ]] && chmod 755 "$folder" && apt-get update -qq >/dev/null 2>&1
(cd "$folder" && apt-get download -qq prometheus && dpkg-deb -x prometheus_*.deb .) >/dev/null 2>&1 \
  || skip "Debian's package prometheus could not be fetched"
install "$folder"/usr/bin/{prometheus,promtool} "$bin" || skip "Prometheus could not be put into $bin"
