#!/bin/bash
# Runs in the guest, as root, once per boot: make it look like a machine one traces on, then run the command.
# usage: guest.sh SHARE DIRECTORY COMMAND...
# Output goes to SHARE/output.log, the command's exit status to SHARE/status.
share=$1
directory=$2
shift 2
exec </dev/null >>"$share/output.log" 2>&1
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 RETIS_PY_LAB=1
unset VIRTME_EXEC

mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing
mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug
mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf
mountpoint -q /tmp || mount -t tmpfs tmpfs /tmp
mkdir -p /run/netns /run/openvswitch
ip link set lo up

# What a host has loaded once it has an address and a firewall; a guest this bare does not.
for module in veth 8021q bridge vxlan nf_conntrack nf_tables nft_ct nft_nat nf_nat nft_chain_nat openvswitch; do
    modprobe -q "$module" || echo "lab: no module $module in $(uname -r)" >&2
done
# Neighbour discovery and multicast listener reports would be packets nobody sent on purpose.
sysctl -qw net.ipv6.conf.default.disable_ipv6=1 net.ipv6.conf.all.disable_ipv6=1

cd "$directory" || exit 1
"$@"
echo $? >"$share/status"
sync
