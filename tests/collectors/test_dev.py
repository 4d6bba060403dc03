"""dev: the interface a packet was on."""

from retis_py.collectors.dev import Dev, DevSection
from retis_py.events.section import PLAIN


def _section(*values):
    return Dev().maker("dev", ("dev",))(*values)


def test_received_packet_shows_both_interfaces() -> None:
    got = _section(b"veth0".ljust(16, b"\0"), 4, 2)
    assert got == DevSection("veth0", 4, 2)
    assert got.text(PLAIN) == "if 4 (veth0) rxif 2"


def test_packet_of_our_own_came_in_nowhere() -> None:
    assert _section(b"lo".ljust(16, b"\0"), 1, 0).text(PLAIN) == "if 1 (lo)"


def test_name_of_full_length_has_no_terminator() -> None:
    assert _section(b"sixteen-bytes-ok", 9, 0).name == "sixteen-bytes-ok"


def test_name_that_is_not_utf8_costs_characters_not_the_event() -> None:
    assert _section(b"\xffeth0".ljust(16, b"\0"), 3, 0).name == "\ufffdeth0"
