"""unixctl: asking a daemon of Open vSwitch, over its control socket, what ``ovs-appctl`` would ask.

The protocol is JSON-RPC 1.0 on a stream socket, without anything between two objects: the Open vSwitch package on PyPI
is 20 times this module.
"""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from retis_py.errors import RetisError

__all__ = ["Unixctl", "UnixctlError", "UnixctlGone", "find_socket"]

#: bytes of the longest answer taken
_LONGEST = 1 << 22


class UnixctlError(RetisError):
    """No answer, or an answer that says so."""


class UnixctlGone(UnixctlError):
    """Nobody is at the socket, or not any more."""


def run_directories() -> list[Path]:
    """Where the sockets may be: see ovs-ctl(8) for OVS_RUNDIR."""
    named = os.environ.get("OVS_RUNDIR")
    return [Path(named)] if named else [Path("/run/openvswitch"), Path("/var/run/openvswitch")]


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def find_socket(daemon: str, pid: int | None = None) -> Path:
    """The control socket of *daemon*, with process id *pid* if that is known."""
    directories = run_directories()
    for directory in directories:
        # the newest first: an old one may be left over, and its number be that of another process by now
        for path in sorted(directory.glob(f"{daemon}.{pid or '*'}.ctl"), key=_time, reverse=True):
            number = path.name[len(daemon) + 1 : -len(".ctl")]
            if number.isdigit() and Path(f"/proc/{number}").exists():
                return path
    raise UnixctlError(
        f"no control socket {daemon}.{pid or 'PID'}.ctl in {directories[0]}",
        hint=f"is {daemon} running? OVS_RUNDIR in the environment names the directory, if it is another",
    )


class Unixctl:
    """A connection to the socket at *path*, made when needed; an answer may take *timeout* seconds."""

    def __init__(self, path: Path, timeout: float = 0.5) -> None:
        self.path, self._timeout = path, timeout
        self._socket: socket.socket | None = None
        self._id = 0

    def call(self, method: str, *parameters: str) -> str:
        """What *method* answers; raises UnixctlError."""
        self._id += 1
        request = {"method": method, "params": list(parameters), "id": self._id}
        end = time.monotonic() + self._timeout
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                self._socket.settimeout(self._timeout)
                self._socket.connect(str(self.path))
            self._socket.settimeout(self._timeout)
            self._socket.sendall(json.dumps(request).encode())
            answer = self._receive(self._socket, end)
        except socket.timeout:
            self.close()
            raise UnixctlError(f"{method}: no answer within {self._timeout * 1000:.0f} ms") from None
        except (FileNotFoundError, ConnectionError) as error:
            self.close()
            raise UnixctlGone(f"{method}: {self.path}: {error.strerror}") from None
        except OSError as error:
            self.close()
            raise UnixctlError(f"{method}: {self.path}: {error.strerror or error}") from None
        except UnixctlError:
            self.close()
            raise
        if answer.get("error") is not None:
            raise UnixctlError(f"{method}: {str(answer['error']).strip()}")
        result = answer.get("result")
        if not isinstance(result, str):
            raise UnixctlError(f"{method}: the answer has no text")
        return result

    def _receive(self, connection: socket.socket, end: float) -> dict[str, Any]:
        """The object with our id; others, left over from calls that timed out, are passed over."""
        decoder, text = json.JSONDecoder(), ""
        data = bytearray()
        while True:
            left = end - time.monotonic()
            if left <= 0:
                raise socket.timeout
            connection.settimeout(left)
            piece = connection.recv(1 << 16)
            if not piece:
                raise UnixctlGone(f"{self.path}: connection closed")
            data += piece
            if len(data) > _LONGEST:
                raise UnixctlError(f"{self.path}: an answer of more than {_LONGEST} bytes")
            if not data.rstrip().endswith(b"}"):
                continue
            text = data.decode(errors="replace").lstrip()
            while text:
                try:
                    answer, at = decoder.raw_decode(text)
                except json.JSONDecodeError:
                    if not text.startswith("{"):
                        raise UnixctlError(f"{self.path}: the answer is not JSON") from None
                    break  # a closing brace in the middle of an answer
                except RecursionError:
                    raise UnixctlError(f"{self.path}: the answer is not one of JSON-RPC") from None
                if not isinstance(answer, dict):
                    raise UnixctlError(f"{self.path}: the answer is not one of JSON-RPC")
                if answer.get("id") == self._id:
                    return answer
                text = text[at:].lstrip()
                data = bytearray(text.encode())

    def close(self) -> None:
        """End the connection; the next call makes a new one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
