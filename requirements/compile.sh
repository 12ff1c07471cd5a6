#!/bin/sh
# Compiles pyproject.toml into hashed requirements, one file per use.
#
#   requirements/compile.sh [path of uv] [--upgrade]
#
# One resolution, with the CUDA build of torch in it, decides every version; the files are cut from
# it. So they agree with one another and, on a GPU machine, with the libraries that torch brings.
# torch and these libraries are left out of dev.txt, because requirements/torch.txt installs them.
# Versions move only with --upgrade.
set -eu
cd "$(dirname "$0")/.."
uv=${1:-uv}
upgrade=${2:-}
unset UV_FIND_LINKS

versions=$(mktemp)
trap 'rm -f "$versions"' EXIT
# What the output file already pins is what uv prefers.
grep -hE '^[a-zA-Z0-9].*==' requirements/*.txt | sed 's/ *\\$//' | sort -u >"$versions"

compile() {
    # A build that --find-links could reach would put its own version beside the official one.
    "$uv" pip compile pyproject.toml --quiet --no-config --universal --python-version 3.11 \
        --fork-strategy fewest --no-header --no-annotate "$@" >/dev/null
}

# shellcheck disable=SC2086 # an empty $upgrade is no argument
compile --extra gpu --group dev --output-file "$versions" $upgrade

set --
for package in torch triton $(grep -oE '^(nvidia|cuda)-[a-z0-9-]+' "$versions"); do
    set -- "$@" --no-emit-package "$package"
done
compile --group dev --constraints "$versions" --generate-hashes "$@" \
    --output-file requirements/dev.txt
for runtime in cpu gpu; do
    compile --extra "$runtime" --group service --constraints "$versions" --generate-hashes \
        --output-file "requirements/serve-$runtime.txt"
done
