#!/usr/bin/env bash
# Install PostgreSQL, which the tests of the store start for themselves on a port of their own. Where that cannot be
# done it says why, and those tests are skipped.
set -uo pipefail
compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null && exit 0
command -v postgres >/dev/null && exit 0
[[ $(id -u) == 0 ]] && command -v apt-get >/dev/null \
  || { echo "No PostgreSQL, and no right to install it: the tests of it as the store are skipped." >&2; exit 0; }
echo "== installing PostgreSQL"
{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql; } >/dev/null 2>&1 \
  || echo "PostgreSQL could not be installed: the tests of it as the store are skipped." >&2
