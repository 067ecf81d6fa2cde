#!/bin/sh
# Make .venv/ with sampan and its tests' tools, and .venv/bin/kubectl and .venv/bin/helm. Safe to run twice.
# Debian packages are installed only when something is missing and we are root.
set -eu
cd "$(dirname "$0")/.."

missing=""
need() { # need PACKAGE PROBE...: PACKAGE is missing unless one of the files or commands PROBE is there
    package=$1; shift
    for probe in "$@"; do
        if [ -e "$probe" ] || command -v "$probe" >/dev/null 2>&1; then return 0; fi
    done
    missing="$missing $package"
}
need containerd containerd
need crun crun
need containernetworking-plugins /usr/lib/cni/loopback
need nftables nft /usr/sbin/nft
need libnftables1 /usr/lib/*/libnftables.so.1 /usr/lib/libnftables.so.1 /usr/lib64/libnftables.so.1
need busybox-static /bin/busybox
need iproute2 ip /sbin/ip
need conntrack conntrack /usr/sbin/conntrack
need procps ps
need docker-registry docker-registry
python3 -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"

# A containerd that Debian starts by itself is not ours to stop; Sampan runs its own beside it.
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "installing Debian packages:$missing"
        apt-get update -qq
        # shellcheck disable=SC2086
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
    else
        echo "not installed:$missing (what needs them will be skipped; as root: apt-get install$missing)" >&2
    fi
fi

stamp=.venv/.stamp
want=$(cat pyproject.toml scripts/setup.sh scripts/real_clients.py | sha256sum)
if [ "$(cat "$stamp" 2>/dev/null)" != "$want" ]; then
    echo "making .venv"
    [ -x .venv/bin/python ] || python3 -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1' 2>/dev/null
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable . --group dev
    .venv/bin/python scripts/real_clients.py .venv/bin
    echo "$want" >"$stamp"
fi
