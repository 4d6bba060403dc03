#!/bin/bash
# Runs in the guest, as root, once per boot: make it look like a machine one traces on, then run the command.
# usage: guest.sh SHARE
# The command is the script SHARE/command; output goes to SHARE/output.log, exit status to SHARE/status.
share=$1
exec </dev/null >>"$share/output.log" 2>&1
touch "$share/up"
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
export RETIS_PY_LAB_SHARE=$share

mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing
mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug
mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf
mountpoint -q /tmp || mount -t tmpfs tmpfs /tmp
mkdir -p /run/netns /run/openvswitch

# The shared root has no cache, as each read and stat asks the host again: what every test reads is mounted a second
# time, with one. The host's files are not expected to change meanwhile.
mkdir -p /run/cached /run/share
mount --bind "$share" /run/share
if mount -t 9p -o ro,version=9p2000.L,trans=virtio,cache=loose,msize=512000 cached /run/cached; then
    for directory in /usr/lib/python3* /usr/lib/x86_64-linux-gnu /usr/lib/llvm-* "${share%/.cache/lab/*}"; do
        [ ! -d "$directory" ] || mount --bind "/run/cached$directory" "$directory"
    done
    mount --bind /run/share "$share"
fi
ip link set lo up

# What a host has loaded once it has an address and a firewall; a guest this bare does not.
for module in veth 8021q bridge vxlan nf_conntrack nf_conntrack_netlink nf_conntrack_ftp nf_tables nft_ct nft_nat nf_nat \
    nft_chain_nat; do
    modprobe -q "$module" || echo "lab: no module $module in $(uname -r)"
done
# Neighbour discovery and multicast listener reports would be packets nobody sent on purpose.
sysctl -qw net.ipv6.conf.default.disable_ipv6=1 net.ipv6.conf.all.disable_ipv6=1

bash "$share/command"
echo $? >"$share/status"
sync
