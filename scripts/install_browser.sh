#!/usr/bin/env bash
# Install the browser that the tests of the dashboard's pages drive, and fonts for Chinese. Where that cannot be done
# it says why, and those tests are skipped. CHROMIUM packages are Debian's.
set -uo pipefail
command -v chromium >/dev/null && exit 0
[[ $(id -u) == 0 ]] && command -v apt-get >/dev/null \
  || { echo "No chromium, and no right to install it: the tests of pages are skipped." >&2; exit 0; }
echo "== installing chromium"
{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-noto-cjk; } >/dev/null \
  || echo "Chromium could not be installed: the tests of pages are skipped." >&2
