#!/bin/sh
# Install the distribution packages that retis_py needs: those that pip cannot provide.
# usage: packages.sh run|demo|test
# Nothing is touched, and no rights are asked for, when everything is there already.
set -eu

debian_run="python3 python3-venv python3-bpfcc libpcap0.8"
debian_test="qemu-system-x86 busybox-static debian-archive-keyring kmod procps bpftool nftables iproute2 iputils-ping
    tcpdump tshark ethtool socat netcat-openbsd conntrack iperf3 openvswitch-switch clang gcc libpcap-dev libc6-dev
    systemtap-sdt-dev python3-yaml man-db zsh fish elvish"
fedora_run="python3 python3-bcc libpcap"
fedora_test="qemu-system-x86-core busybox apt dpkg debian-keyring kmod procps-ng bpftool nftables iproute iputils tcpdump
    wireshark-cli ethtool socat nmap-ncat conntrack-tools iperf3 openvswitch clang gcc libpcap-devel
    systemtap-sdt-devel python3-pyyaml man-db zsh fish"

case ${1:-} in
run | demo | test) set_wanted=$1 ;;
*) echo "usage: $0 run|demo|test" >&2 && exit 2 ;;
esac

fail() {
    echo "error: $*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "must be root to run: $*"
    fi
}

# Mirrors hiccup: three attempts.
try() {
    "$@" || { sleep 5 && "$@"; } || { sleep 20 && "$@"; }
}

on_debian() {
    dpkg-query -W -f '${db:Status-Status} ${Package} ${Provides}\n' 2>/dev/null | sed -n 's/^installed //p' |
        tr ', ' '\n\n' >"$installed"
    missing=
    for package in $wanted; do
        grep -qxF "$package" "$installed" || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    echo "installing:$missing"
    # a third party's broken repository is no reason to stop: what counts is whether the install works
    try as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq || echo "warning: apt-get update failed" >&2
    # shellcheck disable=SC2086
    try as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y -o Dpkg::Use-Pty=0 --no-install-recommends $missing ||
        fail "could not install:$missing"
}

on_fedora() {
    missing=
    for package in $wanted; do
        rpm -q --quiet --whatprovides "$package" || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    echo "installing:$missing"
    # shellcheck disable=SC2086
    try as_root dnf install -q -y --setopt=install_weak_deps=False $missing || fail "could not install:$missing"
}

if command -v apt-get >/dev/null && command -v dpkg-query >/dev/null; then
    installed=$(mktemp)
    trap 'rm -f "$installed"' EXIT
    case $set_wanted in
    run) wanted=$debian_run ;;
    demo) wanted="$debian_run iproute2 iputils-ping tcpdump procps" ;;
    test) wanted="$debian_run $debian_test" ;;
    esac
    on_debian
elif command -v dnf >/dev/null; then
    case $set_wanted in
    run) wanted=$fedora_run ;;
    demo) wanted="$fedora_run iproute iputils tcpdump procps-ng" ;;
    test) wanted="$fedora_run $fedora_test" ;;
    esac
    on_fedora
else
    fail "neither apt-get nor dnf here; install what your distribution calls: Python 3.9+ with venv, the Python
module of BCC, libpcap (the names on Debian: $debian_run) and run make again with PACKAGES=skip"
fi
