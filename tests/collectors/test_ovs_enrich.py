"""Flow enrichment, against a control socket that answers as told: well, late, wrongly or not at all."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable

import pytest

from retis_py.collectors.ovs import Ovs
from retis_py.collectors.ovs_enrich import FlowEnricher
from retis_py.collectors.ovs_events import ufid_text
from retis_py.collectors.unixctl import Unixctl, find_socket
from retis_py.errors import RetisError
from tests.support.collect import retis
from tests.support.kernels import FakeKernel
from tests.support.unixctl import COMMANDS, Daemon, good


def enricher(daemon: Daemon, rate: int = 1000, timeout: float = 0.5) -> FlowEnricher:
    made = FlowEnricher(Unixctl(daemon.path, timeout), rate)
    made.connect()
    made.start()
    return made


def ufid(number: int) -> tuple[int, int, int, int]:
    return (number, 2, 3, 4)


def answers(made: FlowEnricher, count: int, patience: float = 10.0) -> list[tuple[int, object]]:
    out: list[tuple[int, object]] = []
    end = time.monotonic() + patience
    while len(out) < count and time.monotonic() < end:
        out += made.take()
        time.sleep(0.005)
    return out


def test_each_flow_gets_its_datapath_flow_and_its_rules(daemon) -> None:
    made = enricher(daemon())
    for number in range(3):
        made.note(ufid(number), 0xA0 + number, 0xB0)
    began = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    found = answers(made, 3)
    made.stop()
    assert [section.flow for _, section in found] == [0xA0, 0xA1, 0xA2]
    for number, (timestamp, section) in enumerate(found):
        name = f"ufid:{ufid_text(ufid(number))}"
        assert section.ufid == ufid(number)
        assert section.dpflow == f"in_port(1), packets:1, actions:2 {name}"
        assert section.ofpflows == (f"cookie=0x1, table=0 {name}", "cookie=0x2, table=1")
        assert began - 10**9 < timestamp < began + 10**10


def test_requests_are_those_of_ovs_appctl(daemon) -> None:
    control = daemon()
    made = enricher(control)
    made.note(ufid(1), 1, 1)
    answers(made, 1)
    made.stop()
    name = f"ufid:{ufid_text(ufid(1))}"
    assert [(method, parameters) for _, method, parameters in control.calls] == [
        ("list-commands", []),
        ("dpctl/get-flow", [name]),
        ("ofproto/detrace", [name, "pmd=2147483647"]),
    ]


def test_known_flow_is_not_asked_for_again_until_it_moves(daemon) -> None:
    control = daemon()
    made = enricher(control)
    for _ in range(100):
        made.note(ufid(1), 1, 1)
    answers(made, 1)
    for _ in range(100):
        made.note(ufid(1), 1, 1)
    made.note(ufid(1), 1, 2)  # new actions
    ((_, moved),) = answers(made, 1)
    made.stop()
    assert (moved.flow, moved.sf_acts) == (1, 2)
    assert len([call for call in control.calls if call[1] == "dpctl/get-flow"]) == 2


def test_without_detrace_there_are_datapath_flows_only(daemon, caplog) -> None:
    control = daemon(
        lambda method, *rest: COMMANDS.replace("detrace", "trace") if "list" in method else good(method, *rest)
    )
    made = enricher(control)
    assert "has no ofproto/detrace" in caplog.text
    made.note(ufid(1), 1, 1)
    ((_, section),) = answers(made, 1)
    made.stop()
    assert section.dpflow
    assert section.ofpflows == ()


def test_rate_of_zero_is_refused() -> None:
    done = retis("collect", "--ovs-enrich-flows", "--ovs-enrich-rate", 0)
    assert done.returncode == 2
    assert done.stderr.startswith("error: invalid value for '--ovs-enrich-rate': 0 is not in the range 1<=x")


def test_rate_is_not_exceeded(daemon) -> None:
    control = daemon()
    made = enricher(control, rate=50)
    for number in range(10):
        made.note(ufid(number), 1, 1)
    answers(made, 10)
    made.stop()
    times = [when for when, method, _ in control.calls if method != "list-commands"]
    assert len(times) == 20
    # the clock of two threads: a little less than 20 ms may lie between two
    assert min(later - earlier for earlier, later in zip(times, times[1:])) > 0.015
    assert times[-1] - times[0] > 19 / 50 * 0.95


def test_ten_thousand_flows_a_second_do_not_slow_down_who_notes_them(daemon, caplog) -> None:
    control = daemon(lambda *call: COMMANDS if "list" in call[0] else 0.4)
    made = enricher(control, rate=20)
    began = time.thread_time()
    for number in range(10_000):
        made.note(ufid(number), 1, 1)
    spent = time.thread_time() - began
    made.stop()
    assert spent < 0.2  # of a second of flows; mostly a few ms
    assert made.dropped >= 10_000 - 102
    assert caplog.text.count("more flows are looked up than can be asked for") == 1
    assert f"{made.dropped} not taken: see --ovs-enrich-rate" in caplog.text


def test_slow_answer_is_a_failure_and_the_next_one_is_not_taken_for_it(daemon, caplog) -> None:
    def answer(method: str, parameters: list[str], number: int) -> object:
        if method == "dpctl/get-flow" and ufid_text(ufid(1)) in parameters[0]:
            return 0.4
        return good(method, parameters, number)

    made = enricher(daemon(answer), timeout=0.2)
    made.note(ufid(1), 1, 1)
    made.note(ufid(2), 1, 1)
    ((_, section),) = answers(made, 1)
    made.stop()
    assert section.ufid == ufid(2)
    assert ufid_text(ufid(2)) in section.dpflow
    assert made.failed == 1
    assert "1 flow enrichment request(s) failed" in caplog.text


def test_flow_that_is_not_traced_yet_is_asked_for_again(daemon) -> None:
    misses = [2]

    def answer(method: str, parameters: list[str], number: int) -> object:
        if method == "ofproto/detrace" and misses[0]:
            misses[0] -= 1
            return "Cache was not found for this flow"
        return good(method, parameters, number)

    made = enricher(daemon(answer))
    made.note(ufid(1), 1, 1)
    ((_, section),) = answers(made, 1)
    made.stop()
    assert section.ofpflows
    assert misses == [0]
    assert not made.failed


def test_missing_socket_and_wrong_daemon_are_told_before_anything_is_attached(tmp_path, monkeypatch, daemon) -> None:
    monkeypatch.setenv("OVS_RUNDIR", str(tmp_path))
    with pytest.raises(RetisError, match="Failed to connect to OVS via unixctl: no control socket") as error:
        Ovs().setup(FakeKernel(), {"ovs_enrich_flows": True})
    assert "OVS_RUNDIR" in error.value.hint
    daemon(lambda *_: "The available commands are:\n  version")
    with pytest.raises(RetisError, match="does not know dpctl/get-flow"):
        Ovs().setup(FakeKernel(), {"ovs_enrich_flows": True})


def test_daemon_that_dies_while_collecting_costs_its_answers_only(daemon, caplog) -> None:
    caplog.set_level(logging.INFO)
    control = daemon()
    made = enricher(control)
    control.answer = lambda *_: 9.0
    made.note(ufid(1), 1, 1)
    time.sleep(0.2)
    control.end()
    for number in range(2, 5):
        made.note(ufid(number), 1, 1)
    time.sleep(0.5)
    made.stop()
    assert made.take() == []
    assert caplog.text.count("ovs-vswitchd is gone: flows are not enriched until it is back") == 1
    assert "4 unsent flow enrichment request(s)" in caplog.text
    assert not made.failed


@pytest.mark.parametrize("leave_socket", [False, True], ids=["stopped", "killed"])
def test_restarted_daemon_is_found_again(daemon, caplog, tmp_path, monkeypatch, leave_socket) -> None:
    """Its socket is named after another process; one that was killed leaves the old one behind."""
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("OVS_RUNDIR", str(tmp_path))
    first = daemon()
    made = FlowEnricher(Unixctl(first.path), 1000, lambda: find_socket("ovs-vswitchd"))
    made.connect()
    made.start()
    for outage in range(2):
        first.end(leave_socket)
        made.note(ufid(2 * outage), 1, 1)
        _wait(lambda outage=outage: caplog.text.count("ovs-vswitchd is gone") == outage + 1)
        made.note(ufid(2 * outage + 1), 1, 1)
        second = Daemon(tmp_path / f"ovs-vswitchd.{(os.getppid(), 1)[outage]}.ctl", good)
        found = answers(made, 2)
        assert [section.ufid for _, section in found] == [ufid(2 * outage), ufid(2 * outage + 1)]
        assert f"asking {second.path} from now on" in caplog.text
        first = second
    made.stop()
    first.end()
    assert not made.failed
    assert caplog.text.count("ovs-vswitchd is gone") == 2


def test_restart_between_two_requests_goes_unnoticed(daemon, caplog) -> None:
    control = daemon()
    made = enricher(control)
    control.end()
    again = Daemon(control.path, good)
    made.note(ufid(1), 1, 1)
    ((_, section),) = answers(made, 1)
    made.stop()
    again.close()
    assert section.dpflow
    assert not made.failed
    assert caplog.text == ""


def _wait(fact: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not fact():
        assert time.monotonic() < end
        time.sleep(0.01)


def look_up(ovs: Ovs, number: int) -> None:
    """What decoding a look-up of flow *number* calls."""
    ovs.maker("ovs", ("ovs_lookup",))(number, 0xB0, *ufid(number), 1, 0)


def test_flow_left_out_is_asked_for_when_it_is_looked_up_again(daemon) -> None:
    """Equal look-ups are kept as one; what was not taken must not stay behind that."""
    ovs = Ovs()
    control = daemon()
    ovs._enricher = made = FlowEnricher(Unixctl(control.path, 0.5), 100, forget=ovs._lookups.cache_clear)
    made.connect()
    for number in range(1, 102):  # before the thread asks for any: one more than are noted
        look_up(ovs, number)
    assert made.dropped == 1
    made.start()
    answers(made, 100)
    look_up(ovs, 101)
    assert [section.flow for _, section in answers(made, 1)] == [101]
    made.stop()


def test_look_ups_of_a_flow_in_use_do_not_have_it_asked_for_again(daemon, monkeypatch) -> None:
    monkeypatch.setattr("retis_py.collectors.ovs_enrich._MEMORY", 0.2)
    ovs = Ovs()
    control = daemon()
    ovs._enricher = made = FlowEnricher(Unixctl(control.path, 0.5), 1000, forget=ovs._lookups.cache_clear)
    made.connect()
    made.start()
    end = time.monotonic() + 2
    while time.monotonic() < end:  # looked up more often than it is forgotten, through several sweeps
        look_up(ovs, 7)
        time.sleep(0.01)
    made.stop()
    assert len(answers(made, 1)) == 1
    assert made.requests == 2
