"""The trace rule: added as a whole, removed on every way out, never somebody else's."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from retis_py.collectors.nft_trace import TraceRule
from retis_py.errors import KernelError

#: keeps a ruleset in a file: one line per table; a word in the file `fault` makes it misbehave
FAKE = f"""#!{sys.executable}
import json, os, pathlib, sys
here = pathlib.Path(__file__).parent
state = here / "tables"
fault = (here / "fault").read_text() if (here / "fault").exists() else ""
tables = state.read_text().split() if state.exists() else []
with (here / "calls").open("a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
if "all" in fault:
    sys.exit("Operation not permitted (you must be root)")
if sys.argv[1:] == ["-j", "list", "tables"]:
    print(json.dumps({{"nftables": [{{"metainfo": {{}}}}] + [{{"table": {{"name": name}}}} for name in tables]}}))
    sys.exit()
for command in json.loads(sys.argv[2])["nftables"]:
    (verb, what), = command.items()
    if "add" in fault and verb == "insert" or "delete" in fault and verb == "delete":
        sys.exit("Could not process rule")
    if "table" in what:
        name = what["table"]["name"]
        if verb == "delete" and name not in tables:
            sys.exit("No such file or directory")
        tables = [other for other in tables if other != name] + [name] * (verb == "add")
        state.write_text(" ".join(tables))
"""


class FakeNft:
    """A fake ``nft``, and what it was told."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = str(directory / "nft")
        (directory / "run").mkdir()
        Path(self.path).write_text(FAKE)
        os.chmod(self.path, 0o755)

    @property
    def tables(self) -> list[str]:
        state = self.directory / "tables"
        return state.read_text().split() if state.exists() else []

    @property
    def calls(self) -> list[str]:
        calls = self.directory / "calls"
        return calls.read_text().splitlines() if calls.exists() else []

    def fault(self, word: str) -> None:
        (self.directory / "fault").write_text(word)

    def rule(self) -> TraceRule:
        return TraceRule(self.path, self.directory / "run")

    @property
    def marks(self) -> list[Path]:
        return list((self.directory / "run").iterdir())


@pytest.fixture
def nft(tmp_path: Path) -> FakeNft:
    return FakeNft(tmp_path)


def test_rule_is_in_a_chain_that_no_packet_reaches(nft: FakeNft) -> None:
    rule = nft.rule()
    rule.install()
    added = json.loads(nft.calls[-1].removeprefix("-j "))["nftables"]
    assert added[0] == {"add": {"table": {"family": "inet", "name": "Retis_Table"}}}
    assert added[1] == {"add": {"chain": {"family": "inet", "table": "Retis_Table", "name": "Retis_Chain"}}}
    assert added[2]["insert"]["rule"]["expr"] == [{"mangle": {"key": {"meta": {"key": "nftrace"}}, "value": 1}}]
    rule.remove()
    rule.remove()
    assert (nft.tables, nft.marks) == ([], [])


def test_nothing_is_done_without_a_reason(nft: FakeNft) -> None:
    rule = nft.rule()
    rule.clean_up()
    rule.remove()
    assert (nft.calls, nft.marks) == ([], [])


@pytest.mark.parametrize("consent", [False, True])
def test_rule_of_a_killed_run_is_removed_and_told(
    nft: FakeNft, caplog: pytest.LogCaptureFixture, consent: bool
) -> None:
    code = "import sys; from pathlib import Path; from retis_py.collectors.nft_trace import TraceRule\n"
    code += (
        "TraceRule(sys.argv[1], Path(sys.argv[2])).install(); sys.stdout.flush(); import os; os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, nft.path, nft.directory / "run"])
    assert nft.tables == ["Retis_Table"] and len(nft.marks) == 1
    caplog.set_level(logging.INFO)
    rule = nft.rule()
    rule.clean_up()
    assert (nft.tables, nft.marks) == ([], [])
    assert "Removed table inet Retis_Table, left behind by an earlier run" in caplog.text
    if consent:
        rule.install()
        assert nft.tables == ["Retis_Table"]
        rule.remove()
    assert (nft.tables, nft.marks) == ([], [])


def test_table_that_another_program_left_is_replaced(nft: FakeNft, caplog: pytest.LogCaptureFixture) -> None:
    (nft.directory / "tables").write_text("mine Retis_Table")
    caplog.set_level(logging.INFO)
    rule = nft.rule()
    rule.clean_up()
    assert nft.tables == ["mine", "Retis_Table"]  # without consent, only what our mark says is ours
    rule.install()
    assert "left behind" in caplog.text
    rule.remove()
    assert nft.tables == ["mine"]


def test_runs_at_the_same_time_share_the_rule_and_the_last_one_removes_it(nft: FakeNft) -> None:
    first, second, third = nft.rule(), nft.rule(), nft.rule()
    first.install()
    second.install()
    third.clean_up()
    first.remove()
    assert nft.tables == ["Retis_Table"]
    third.clean_up()
    assert nft.tables == ["Retis_Table"]
    second.remove()
    assert (nft.tables, nft.marks) == ([], [])


def test_failure_half_way_leaves_nothing(nft: FakeNft) -> None:
    nft.fault("add")
    with pytest.raises(KernelError, match="cannot add the nft trace rule: Could not process rule") as caught:
        nft.rule().install()
    assert "CAP_NET_ADMIN" in (caught.value.hint or "")
    assert (nft.tables, nft.marks) == ([], [])


def test_without_the_right_to_change_the_ruleset_the_reason_is_nfts(nft: FakeNft) -> None:
    nft.fault("all")
    with pytest.raises(KernelError, match="Operation not permitted"):
        nft.rule().install()


@pytest.mark.parametrize(("script", "why"), [(None, "No such file"), ("#!/bin/sh\nexit 3\n", "exit status 3")])
def test_nft_that_cannot_run_is_told(tmp_path: Path, script: str | None, why: str) -> None:
    if script is not None:
        (tmp_path / "nft").write_text(script)
        (tmp_path / "nft").chmod(0o755)
    with pytest.raises(KernelError, match=why):
        TraceRule(str(tmp_path / "nft"), tmp_path).install()


def test_run_that_looks_for_leftovers_does_not_keep_the_last_user_from_removing_its_rule(
    nft: FakeNft, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, close, removed = nft.rule(), os.close, []
    user.install()

    def remove_first(fd: int) -> None:
        if not removed:
            removed.append(fd)
            user.remove()
        close(fd)

    # the moment before the other one gives up whatever it has locked
    monkeypatch.setattr("retis_py.collectors.nft_trace.os.close", remove_first)
    nft.rule().clean_up()
    assert removed
    assert (nft.tables, nft.marks) == ([], [])


def test_rule_that_cannot_be_removed_is_told_with_the_command_that_does_it(
    nft: FakeNft, caplog: pytest.LogCaptureFixture
) -> None:
    rule = nft.rule()
    rule.install()
    nft.fault("delete")
    rule.remove()
    assert "To remove the table, please run: nft delete table inet Retis_Table" in caplog.text
    nft.fault("")
    caplog.set_level(logging.INFO)
    nft.rule().clean_up()  # and the next run tries again
    assert nft.tables == [] and "left behind" in caplog.text


def test_ruleset_flushed_meanwhile_is_a_warning_not_an_error(nft: FakeNft, caplog: pytest.LogCaptureFixture) -> None:
    rule = nft.rule()
    rule.install()
    (nft.directory / "tables").write_text("")
    rule.remove()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "events of nft may be missing" in caplog.text
    assert nft.marks == []


def test_rule_does_not_need_a_place_for_its_mark(nft: FakeNft) -> None:
    rule = TraceRule(nft.path, nft.directory / "nowhere")
    rule.install()
    assert nft.tables == ["Retis_Table"]
    rule.remove()
    assert nft.tables == []


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("nft"), reason="needs root and nft")
def test_real_nft_takes_the_rule_and_gives_it_back(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys; from pathlib import Path; from retis_py.collectors.nft_trace import TraceRule\n"
        "rule = TraceRule('nft', Path(sys.argv[1]))\n"
        "listed = lambda: print(subprocess.run(['nft', 'list', 'ruleset'], capture_output=True, text=True).stdout)\n"
        "rule.install(); listed(); print('then'); rule.remove(); listed()"
    )
    done = subprocess.run(
        ["unshare", "-n", sys.executable, "-c", code, tmp_path], capture_output=True, text=True, timeout=60
    )
    if "not permitted" in done.stderr or "not supported" in done.stderr:
        pytest.skip(done.stderr)
    before, after = done.stdout.split("then")
    assert " ".join(before.split()) == "table inet Retis_Table { chain Retis_Chain { meta nftrace set 1 } }"
    assert after.strip() == "" and done.stderr == ""
