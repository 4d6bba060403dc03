"""What the kernel's text files say: configuration, symbols, lists of tracefs, rights."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from retis_py.errors import KernelError
from retis_py.events.core import KernelSection
from retis_py.kernel import features
from retis_py.kernel.config import KernelConfig
from retis_py.kernel.cpus import Counts
from retis_py.kernel.losses import RETURNS, Ledger
from retis_py.kernel.session import Missed
from retis_py.kernel.symbols import Symbols, Tracefs

CONFIG = b'CONFIG_BPF=y\nCONFIG_NF_CONNTRACK=m\n# CONFIG_X86_FRED is not set\nCONFIG_CC="gcc 12"\n'
KALLSYMS = (
    "ffffffff81000000 T _text\n"
    "ffffffff81000100 T ip_rcv\n"
    "ffffffff81000100 t alias_of_ip_rcv\n"
    "ffffffff81000200 T ip_rcv_core\n"
    "ffffffffc0000000 t nf_hook\t[nf_tables]\n"
)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_kernel_configuration_is_read_plain_and_packed(tmp_path: Path, pack) -> None:
    (tmp_path / "config").write_bytes(pack(CONFIG))
    config = KernelConfig(tmp_path / "config")
    assert config.get("CONFIG_BPF") == "y"
    assert config.get("CONFIG_NF_CONNTRACK") == "m"
    assert config.get("CONFIG_X86_FRED") == "n"
    assert config.get("CONFIG_NOT_MENTIONED") == "n"
    assert config.get("CONFIG_CC") == "gcc 12"


def test_named_configuration_must_be_readable(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match=r"Could not read .*nosuch: No such file"):
        KernelConfig(tmp_path / "nosuch")


def test_unknown_configuration_says_nothing() -> None:
    assert KernelConfig(release="0.0-nosuch").get("CONFIG_BPF") in (None, "y")


@pytest.fixture
def symbols(tmp_path: Path) -> Symbols:
    (tmp_path / "kallsyms").write_text(KALLSYMS)
    return Symbols(tmp_path / "kallsyms")


def test_symbol_has_an_address_and_perhaps_a_module(symbols: Symbols) -> None:
    assert symbols.find("ip_rcv") == (0xFFFFFFFF81000100, None)
    assert symbols.find("nf_hook") == (0xFFFFFFFFC0000000, "nf_tables")
    assert symbols.find("ip_rc") is None


def test_address_is_told_by_the_nearest_symbol_before_it(symbols: Symbols) -> None:
    assert symbols.name(0xFFFFFFFF81000101) == "ip_rcv+0x1"
    assert symbols.name(0xFFFFFFFF81000200) == "ip_rcv_core+0x0"
    assert symbols.name(0x10) == "0x10"


def test_hidden_addresses_are_an_error_that_names_the_right(tmp_path: Path) -> None:
    (tmp_path / "kallsyms").write_text("0000000000000000 T ip_rcv\n0000000000000000 T _text\n")
    with pytest.raises(KernelError, match="does not have the rights to read the symbol addresses"):
        Symbols(tmp_path / "kallsyms").name(1)


def test_tracefs_lists_drop_the_module_of_a_function(tmp_path: Path) -> None:
    (tmp_path / "available_filter_functions").write_text("ip_rcv\nnf_hook [nf_tables]\n")
    (tmp_path / "available_events").write_text("skb:kfree_skb\nnet:netif_rx\n")
    lists = Tracefs((tmp_path / "nosuch", tmp_path))
    assert lists.functions == {"ip_rcv", "nf_hook"}
    assert lists.events == {"skb:kfree_skb", "net:netif_rx"}
    assert Tracefs((tmp_path / "nosuch",)).functions is None


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("[none] integrity confidentiality\n", "none"),
        ("none [integrity] confidentiality\n", "integrity"),
        (None, "none"),
    ],
)
def test_lockdown_mode(tmp_path: Path, text: str | None, mode: str) -> None:
    if text:
        (tmp_path / "lockdown").write_text(text)
    assert features.lockdown(tmp_path / "lockdown") == mode


def test_missing_capability_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "_capabilities", lambda: 1 << 39)
    with pytest.raises(KernelError, match="CAP_SYS_ADMIN"):
        features.check_rights()
    monkeypatch.setattr(features, "_capabilities", lambda: 1 << 21)
    with pytest.raises(KernelError, match="CAP_BPF"):
        features.check_rights()


def test_losses_are_summed_by_probe_and_told(caplog: pytest.LogCaptureFixture) -> None:
    class Session:
        @staticmethod
        def losses():
            return iter([(0, 0, 5), (0, 1, 7), (5, 1, 2), (6, 0, 1), (7, 1, 6)])

        class cpus:
            @staticmethod
            def counts():
                return Counts([12, 2, 1, 6], 20, 1)

        @staticmethod
        def missed():
            returns = (Missed(3, False, 8), Missed(3, True, 1), Missed(3, False, 2))
            return [Missed(1, True, 3), Missed(None, True, 4), Missed(2, True, 9), Missed(0, False, 6), *returns]

    probes = [KernelSection("ip_rcv", "kprobe"), KernelSection("skb:kfree_skb", "raw_tracepoint")]
    probes += [KernelSection("kmem:kfree", "raw_tracepoint"), KernelSection("inet_csk_accept", "kretprobe")]
    assert Ledger(Session, probes, quiet={2}).summary(reported=5) == 14
    assert [record.getMessage() for record in caplog.records] == [
        "lost 12 event(s) from ip_rcv\n  buffer full, see --buffer-pages: CPU 0: 5, CPU 1: 7",
        "lost 2 event(s) from skb:kfree_skb\n  too many hits under way on one CPU: CPU 1: 2",
        "1 event(s) from skb:kfree_skb without identity\n  tracking map full: CPU 0: 1",
        "6 packet(s) at skb:kfree_skb not followed any further\n  table of a collector full: CPU 1: 6",
        "total events lost: 14",
        "missed 3 hit(s) of skb:kfree_skb\n  a BPF program was already running on that CPU",
        "missed 4 hit(s) of probes attached together\n  a BPF program was already running on that CPU",
        "missed 6 hit(s) of ip_rcv\n  another probe was being handled on that CPU",
        f"missed 10 hit(s) of kretprobe:inet_csk_accept\n  {RETURNS}",
        "missed 1 hit(s) of kretprobe:inet_csk_accept\n  a BPF program was already running on that CPU",
    ]
    caplog.clear()
    Ledger(Session, probes).summary(reported=4)
    assert caplog.records[-1].getMessage() == (
        "the ledger does not add up: 20 hit(s) passed the filters, 4 were reported, 14 lost, 1 had nothing to say"
    )


def test_growing_loss_is_told_while_it_happens(caplog: pytest.LogCaptureFixture) -> None:
    class Session:
        class cpus:
            lost = [0, 0, 0, 0]

            @classmethod
            def counts(cls):
                return Counts(cls.lost, sum(cls.lost), 0)

    ledger = Ledger(Session, [KernelSection("ip_rcv", "kprobe")])
    ledger._next = 0
    ledger.watch()
    assert not caplog.records
    Session.cpus.lost = [3, 1, 5, 0]
    ledger._next = 0
    ledger.watch()
    Session.cpus.lost = [9, 1, 5, 0]
    ledger.watch()  # not again within a second
    assert [record.getMessage() for record in caplog.records] == [
        "lost 4 event(s) so far (buffer full, see --buffer-pages; too many hits under way on one CPU)"
    ]
