#!/bin/bash
# The main job on live traffic: collect, sort, pcap. Runs here if this kernel can be traced, else in the lab.
# usage: demo.sh [here|lab]    do not ask: run on this kernel, as the guest does; or in the lab
set -euo pipefail
cd "$(dirname "$0")/../.."
python=.venv/bin/python
retis=.venv/bin/retis

# bold on a terminal
if [ -t 1 ]; then bold='\033[1m' plain='\033[0m'; else bold='' plain=''; fi
say() { printf "\n$bold%s$plain\n" "$*"; }

if [ "${1:-}" != here ]; then
    if mode=$($python -m tests.support.tracing) && [ "${1:-}" != lab ]; then
        tests/lab/packages.sh demo
        say "This kernel ($(uname -r)) can be traced: $mode."
        [ "$(id -u)" -eq 0 ] || exec sudo "$0" here
        exec "$0" here
    fi
    [ "${1:-}" = lab ] || say "This kernel ($(uname -r)) cannot be traced: $mode."
    echo "Using a virtual machine with a stock kernel; the first time, it is downloaded."
    make --no-print-directory test-install
    exec $python -m tests.lab.boot 6.12 -- "$PWD/tests/lab/demo.sh" here
fi

near=rp-demo-$$-a
far=rp-demo-$$-b
work=$(mktemp -d)
clean_up() {
    for namespace in $near $far; do
        ip netns del "$namespace" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP

for namespace in $near $far; do
    ip netns add "$namespace"
    ip -n "$namespace" link set lo up
    ip netns exec "$namespace" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1 \
        2>/dev/null || true
done
ip -n $near link add eth0 type veth peer name eth0 netns $far
ip -n $near address add 10.0.42.1/24 dev eth0
ip -n $far address add 10.0.42.2/24 dev eth0
ip -n $near link set eth0 up
ip -n $far link set eth0 up

filter='icmp or tcp port 443'
traffic="ip netns exec $near ping -n -c 1 10.0.42.2; ip netns exec $near bash -c '</dev/tcp/10.0.42.2/443'"

say "Two namespaces, one ping, and one TCP connection to a port that nobody listens on:"
say "\$ retis collect -f '$filter' -o retis.data --print"
$retis collect -f "$filter" -o "$work/retis.data" --print --cmd "$traffic"

say '$ retis sort retis.data          # the same events, packet by packet'
$retis sort "$work/retis.data"

say '$ retis pcap --probe tp:net:netif_receive_skb retis.data | tcpdump -nnr -'
$retis pcap --probe tp:net:netif_receive_skb "$work/retis.data" | tcpdump -nnr - 2>/dev/null
