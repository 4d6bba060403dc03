"""The stand-in for an ovs-vswitchd with USDT probes: tests/support/vswitchd.c, compiled and run."""

from __future__ import annotations

import subprocess
from pathlib import Path

__all__ = ["StandIn", "build"]

SOURCE = Path(__file__).with_suffix(".c")


def build(directory: Path, *options: str) -> Path:
    """The program, called ovs-vswitchd as the process must be."""
    program = directory / "ovs-vswitchd"
    subprocess.run(["gcc", "-O2", "-pthread", *options, "-o", program, SOURCE], check=True)
    return program


class StandIn:
    """A running stand-in."""

    def __init__(self, program: Path, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [program, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self._answer("ready")

    @property
    def pid(self) -> int:
        return self.process.pid

    def _answer(self, word: str) -> None:
        said = self.process.stdout.readline()
        assert said == f"{word}\n", f"{word!r} expected, got {said!r}, exit {self.process.poll()}"

    def say(self, line: str) -> None:
        """Have it do *line*, and wait until it has."""
        self.process.stdin.write(line + "\n")
        self._answer("done")

    def recv(self, handler: int, packet: bytes) -> None:
        self.say(f"{handler} recv {packet.hex()}")

    def put(self, handler: int) -> None:
        self.say(f"{handler} put")

    def execute(self, handler: int, packet: bytes) -> None:
        self.say(f"{handler} exec {packet.hex()}")

    def __enter__(self) -> StandIn:
        return self

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()

    def __exit__(self, *exc_info: object) -> None:
        self.end()
