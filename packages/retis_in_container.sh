#!/bin/sh
# Run retis from its container image, with the rights and the files of the host that tracing needs, and no more.
# usage: retis_in_container.sh [retis arguments...]; files are read from and written to the current directory.
# RETIS_IMAGE, RETIS_TAG: the image; OVS_RUNDIR: where Open vSwitch has its sockets
set -eu
image=${RETIS_IMAGE:-localhost/retis-py}:${RETIS_TAG:-latest}
rundir=${OVS_RUNDIR:-/var/run/openvswitch}
release=$(uname -r)

if command -v podman >/dev/null; then
    runtime=podman
elif command -v docker >/dev/null; then
    runtime=docker
else
    echo "error: neither podman nor docker is installed" >&2
    exit 1
fi

# keep the arguments of retis apart from those of the runtime: they come after all of these
count=$#
set -- "$@" run --rm --pid=host --net none --read-only --tmpfs /tmp --tmpfs /var/tmp --cap-drop all
for capability in SYS_ADMIN BPF SYSLOG PERFMON NET_ADMIN DAC_OVERRIDE SYS_PTRACE; do
    set -- "$@" --cap-add "$capability"
done
set -- "$@" --security-opt no-new-privileges --security-opt label=disable
i=0
for argument in "$@"; do
    [ $i -lt "$count" ] || break
    i=$((i + 1))
    [ "$runtime:$argument" != docker:--allow-system-changes ] || set -- "$@" --security-opt apparmor=unconfined
done

mount() { # mount PATH OPTIONS: of what the host has
    [ ! -e "$1" ] || extra="$extra -v $1:$1:$2"
}
extra=
mount /sys/kernel/btf ro
mount /sys/kernel/tracing ro
mount /sys/kernel/debug ro
mount "/boot/config-$release" ro
mount "/lib/modules/$release/config" ro
mount "$rundir" rw
daemon=$(command -v ovs-vswitchd || true)
[ -z "$daemon" ] || mount "$(readlink -f "$daemon")" ro
# shellcheck disable=SC2086
set -- "$@" $extra -v "$PWD:/data:rw"
[ ! -d "${HOME:-/nonexistent}/.config/retis" ] || set -- "$@" -v "$HOME/.config/retis:/root/.config/retis:ro"
for variable in PAGER NOPAGER NO_COLOR TERM; do
    set -- "$@" -e "$variable"
done
set -- "$@" -e LC_ALL=C.UTF-8
# a terminal changes what is written to it: not in front of a pipe, which may want PCAP-NG
[ ! -t 1 ] || set -- "$@" -t
[ ! -t 0 ] || set -- "$@" -i
set -- "$@" "$image"

# rotate the arguments of retis to the end
while [ "$count" -gt 0 ]; do
    argument=$1
    shift
    set -- "$@" "$argument"
    count=$((count - 1))
done
exec "$runtime" "$@"
