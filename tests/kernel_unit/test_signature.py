"""Arguments and return values: what registers mean, by this kernel's BTF."""

from __future__ import annotations

from pathlib import Path

import pytest

from retis_py.display import to_text
from retis_py.events.args import ArgsSection, Argument, Value
from retis_py.kernel.probes import Probe
from retis_py.kernel.signature import signature, values_maker
from retis_py.kernel.system import System

U64 = 1 << 64
pytestmark = pytest.mark.skipif(not Path("/sys/kernel/btf/vmlinux").exists(), reason="this kernel has no BTF")


@pytest.fixture(scope="module")
def system() -> System:
    return System()


def _probe(system: System, kind: str, symbol: str, *options: str) -> Probe:
    parameters = system.types.vmlinux.function(symbol)
    assert parameters is not None
    return Probe(kind, symbol, tuple(parameters), frozenset(options))


def test_probe_without_options_reports_nothing(system: System) -> None:
    assert signature(_probe(system, "kprobe", "tcp_v4_rcv"), system) == ((), None)


def test_registers_are_cut_to_the_size_and_sign_of_their_type(system: System) -> None:
    # net/core/skbuff.c: int pskb_expand_head(struct sk_buff *skb, int nhead, int ntail, gfp_t gfp_mask)
    known = signature(_probe(system, "kretprobe", "pskb_expand_head", "args", "ret"), system)
    registers = (U64 - 1, U64 - 5, 1 << 40 | 7, 1 << 32 | 0xFFFF_FFFF, 9, 9)
    section = values_maker([known], ("args", "ret"))(0, *registers, U64 - 12)
    assert section.args == (
        Argument("struct sk_buff *", U64 - 1, None, "skb"),
        Argument("int", -5, None, "nhead"),
        Argument("int", 7, None, "ntail"),
        Argument("gfp_t", 0xFFFF_FFFF, None, "gfp_mask"),
    )
    assert section.ret == Value("int", -12, "ENOMEM")


def test_error_pointer_has_the_name_of_its_error(system: System) -> None:
    # struct sk_buff *__skb_gso_segment(): ERR_PTR() or segments
    known = signature(_probe(system, "kretprobe", "__skb_gso_segment", "ret"), system)
    make = values_maker([known], ("ret",))
    assert make(0, U64 - 22).ret == Value("struct sk_buff *", U64 - 22, "EINVAL")
    assert make(0, 0).ret == Value("struct sk_buff *", 0)


def test_enum_values_have_their_names(system: System) -> None:
    reasons = system.types.vmlinux.enum("skb_drop_reason")
    assert reasons
    parameters = system.types.tracepoint("kfree_skb")
    probe = Probe("raw_tracepoint", "skb:kfree_skb", tuple(parameters), frozenset({"args"}))
    known = signature(probe, system)
    section = values_maker([known], ("args",))(0, 1, 2, reasons["SKB_DROP_REASON_NO_SOCKET"], 0, 0, 0)
    reason = next(argument for argument in section.args if argument.name == "reason")
    assert reason.symbol == "SKB_DROP_REASON_NO_SOCKET"
    assert section.args[0].name == "skb"  # from BTF, though the type of a tracepoint has no names


def test_what_follows_a_structure_passed_by_value_is_not_guessed(system: System) -> None:
    # net/core/sock.c: int sk_setsockopt(struct sock *sk, int level, int optname, sockptr_t optval, unsigned int optlen)
    parameters = system.types.vmlinux.function("sk_setsockopt")
    assert [parameter.name for parameter in parameters] == ["sk", "level", "optname"]


@pytest.mark.parametrize(
    ("section", "text"),
    [
        (ArgsSection((Argument("struct sk_buff *", 255, None, "skb"),)), "args skb 0xff"),
        (ArgsSection((Argument("int", -5, None, "n"), Argument("u8", 3, None, "m"))), "args n -5 m 3"),
        (ArgsSection((), Value("int", -22, "EINVAL")), "ret -22 (EINVAL)"),
        (ArgsSection((Argument("bool", 1, None, "b"),), Value("void *", 0)), "args b 1 ret 0x0"),
    ],
)
def test_text(section: ArgsSection, text: str) -> None:
    from retis_py.collectors import Event
    from retis_py.events.core import CommonSection

    assert to_text(Event(common=CommonSection(5), args=section)) == f"5\n  {text}"
