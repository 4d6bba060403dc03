"""nft: which rule decided what."""

import msgspec
import pytest

from retis_py.collectors import Event
from retis_py.collectors.nft import Nft
from retis_py.events.section import PLAIN

(SECTION,) = Nft.sections


def _nft(**changes):
    fields = {
        "table_name": "t",
        "chain_name": "c",
        "verdict": "accept",
        "table_handle": 1,
        "chain_handle": 2,
        "policy": False,
    }
    line = msgspec.json.encode({"common": {"timestamp": 2}, "nft": {**fields, **changes}})
    return msgspec.json.decode(line, type=Event).nft


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"policy": True}, "table t (1) chain c (2) accept (policy)"),
        (
            {"verdict": "jump", "rule_handle": 3, "verdict_chain_name": "d"},
            "table t (1) chain c (2) handle 3 jump chain d",
        ),
        ({"verdict": "drop", "rule_handle": 7}, "table t (1) chain c (2) handle 7 drop"),
    ],
)
def test_verdict_is_told_with_table_chain_and_rule(changes: dict[str, object], text: str) -> None:
    assert isinstance(_nft(), SECTION)
    assert _nft(**changes).text(PLAIN) == text


def test_names_never_carry_a_terminal_escape() -> None:
    assert "\x1b" not in _nft(table_name="\x1b[31mred", chain_name="a\nb").text(PLAIN)
