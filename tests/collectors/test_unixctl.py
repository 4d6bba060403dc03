"""Calls of a daemon's control socket."""

from __future__ import annotations

import json

import pytest

from retis_py.collectors.unixctl import Unixctl, UnixctlError, find_socket


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"garbage", "no answer within"),
        (b"garbage}", "not JSON"),
        (b"[1]}", "not one of JSON-RPC"),
        (b'{"id": 99, "result": "x", "error": null}', "no answer within"),
        (b"[" * 100_000 + b"}", "not one of JSON-RPC"),
        (ValueError("no such flow\n"), "no such flow"),
        (7, "no text"),
        (0.3, "no answer within"),
    ],
)
def test_bad_answer_is_an_error_and_the_next_call_works(daemon, said, reason) -> None:
    sick = [said]
    control = daemon(lambda *call: sick.pop() if sick else "well")
    client = Unixctl(control.path, 0.2)
    with pytest.raises(UnixctlError, match=reason):
        client.call("version")
    assert client.call("version") == "well"


def test_answer_may_come_in_pieces_and_behind_another(daemon) -> None:
    def answer(method: str, parameters: list[str], number: int) -> bytes:
        late = json.dumps({"id": number - 1, "result": "old }", "error": None})
        return (late + json.dumps({"id": number, "result": "x" * 300_000 + "}{", "error": None})).encode()

    assert Unixctl(daemon(answer).path, 5).call("version") == "x" * 300_000 + "}{"


def test_endless_answer_is_cut_off(daemon) -> None:
    with pytest.raises(UnixctlError, match="more than"):
        Unixctl(daemon(lambda *_: b"[" * (5 << 20)).path, 10).call("version")


def test_socket_is_found_by_the_process_that_has_it(tmp_path, monkeypatch, daemon) -> None:
    monkeypatch.setenv("OVS_RUNDIR", str(tmp_path))
    with pytest.raises(UnixctlError, match=r"no control socket ovs-vswitchd\.PID\.ctl in"):
        find_socket("ovs-vswitchd")
    (tmp_path / "ovs-vswitchd.4194999.ctl").touch()  # of a process that is gone
    control = daemon()
    assert find_socket("ovs-vswitchd") == control.path
    with pytest.raises(UnixctlError):
        find_socket("ovs-vswitchd", 1)
