#!/bin/sh
# tests/install-tools.sh NAME…: sees to the programs that some tests run for real, each named like
# its Debian package. On Debian as root it installs what is missing; elsewhere it says how, and
# these tests skip.
set -eu

missing=
for name; do
    command -v "$name" >/dev/null || missing="$missing $name"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "Some tests will be skipped. To run them: sudo apt-get install$missing" >&2
    exit 0
fi

echo "Installing$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # one word a package
if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing; } \
    </dev/null >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    echo "Could not install$missing; the tests that need them will be skipped." >&2
fi
