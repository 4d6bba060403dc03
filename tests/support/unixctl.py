"""A control socket that answers as told: well, late, wrongly or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

__all__ = ["COMMANDS", "Answer", "Daemon", "daemon", "good"]

Answer = Callable[[str, list[str], int], object]
COMMANDS = "The available commands are:\n  dpctl/get-flow [dp] ufid\n  ofproto/detrace ufid [pmd]\n  version"


class Daemon:
    """ovs-vswitchd's control socket. *answer(method, parameters, id)* gives bytes to send as they are, text as the
    result, an exception as the error, or a number of seconds to be silent."""

    def __init__(self, path: Path, answer: Answer) -> None:
        self.path, self.answer = path, answer
        self.calls: list[tuple[float, str, list[str]]] = []
        self._connections: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            while data := connection.recv(1 << 16):
                request = json.loads(data)
                self.calls.append((time.monotonic(), request["method"], request["params"]))
                said = self.answer(request["method"], request["params"], request["id"])
                if isinstance(said, float):
                    time.sleep(said)
                    said = "too late"
                if isinstance(said, bytes):
                    connection.sendall(said)
                    continue
                error = str(said) if isinstance(said, Exception) else None
                reply = {"id": request["id"], "result": None if error else said, "error": error}
                connection.sendall(json.dumps(reply).encode())

    def close(self) -> None:
        self._listener.close()

    def end(self, leave_socket: bool = False) -> None:
        """As the end of its process does."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self.close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        if not leave_socket:
            self.path.unlink()


def good(method: str, parameters: list[str], _id: int) -> object:
    if method == "list-commands":
        return COMMANDS
    if method == "dpctl/get-flow":
        return f"in_port(1), packets:1, actions:2 {parameters[0]}\n"
    return f" cookie=0x1, table=0 {parameters[0]}\n\ncookie=0x2, table=1\n"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Callable[[Answer], Daemon]]:
    daemons = []

    def make(answer: Answer = good) -> Daemon:
        daemons.append(Daemon(tmp_path / f"ovs-vswitchd.{os.getpid()}.ctl", answer))
        return daemons[-1]

    yield make
    for one in daemons:
        one.close()
