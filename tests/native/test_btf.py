"""This kernel's own BTF."""

from retis_py.kernel.btf import Btf, Kind
from retis_py.kernel.types import KernelTypes


def test_index_finds_what_libbpf_finds_and_exactly_the_functions_that_take_a_packet():
    vmlinux = KernelTypes().vmlinux
    names = list(vmlinux.functions.ids)
    taking = vmlinux.taking({"struct sk_buff *"})
    fresh = Btf(vmlinux.path)
    for name in names[:: len(names) // 40]:
        assert fresh.find(name, Kind.FUNC) == vmlinux.functions.ids[name]
    assert {"ip_rcv", "kfree_skb_partial"} <= taking
    expected = {name for name in names if any(p.type == "struct sk_buff *" for p in vmlinux.function(name) or ())}
    assert taking == expected
