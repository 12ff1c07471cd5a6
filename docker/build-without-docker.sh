#!/bin/sh
# docker/build-without-docker.sh STORE [cpu|gpu]: builds the image vqtok:cpu or vqtok:gpu where
# neither Docker nor an image registry can be reached, on Debian as root, with
#
#   apt-get install buildah debootstrap
#
# STORE is the folder of the image store. It also keeps a stand-in for python:3.11-slim, made of
# Debian's own packages from the mirror that apt uses. To look inside, or to run it:
#
#   export BUILDAH_ISOLATION=chroot
#   buildah="buildah --root STORE/images --runroot STORE/run --storage-driver vfs"
#   $buildah run "$($buildah from --pull-never vqtok:cpu)" -- python -m service
set -eu

store=$(mkdir -p "$1" && cd "$1" && pwd)
target=${2:-cpu}
context=$(cd "$(dirname "$0")/.." && pwd)
base=localhost/python:3.11-slim
export BUILDAH_ISOLATION=chroot

buildah() {
    command buildah --root "$store/images" --runroot "$store/run" --storage-driver vfs "$@"
}

debian_mirror() {
    cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
        grep -oE '^(URIs:|deb) .*' | grep -oE '[a-z]+:[^ ]+/debian/?( |$)' | head -n 1
}

make_base() {
    rootfs=$store/rootfs
    # Bookworm is the Debian whose Python is 3.11.
    # shellcheck disable=SC2046 # no mirror found leaves debootstrap to its own default
    debootstrap --variant=minbase --include=ca-certificates,python3,python3-pip,python3-venv \
        bookworm "$rootfs" $(debian_mirror)
    ln -sf python3 "$rootfs/usr/bin/python"
    rm -rf "$rootfs"/usr/lib/python3*/EXTERNALLY-MANAGED \
        "$rootfs"/var/cache/apt/archives/*.deb "$rootfs"/var/lib/apt/lists/*
    container=$(buildah from scratch)
    buildah add --quiet "$container" "$rootfs" /
    buildah commit --quiet "$container" "$base"
    buildah rm "$container"
    rm -rf "$rootfs"
}

buildah inspect --type image "$base" >/dev/null 2>&1 || make_base
# With the certificates of this machine, which its network may ask for. The format is Docker's
# because the other one has no health checks.
buildah bud --pull-never --network host --format docker \
    --volume /etc/ssl/certs:/etc/ssl/certs:ro --target "$target" --tag "vqtok:$target" "$context"
