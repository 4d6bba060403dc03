"""A running ``retis collect``: started, known to be attached, stopped, and its events read."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.events import Event, find_in_order
from tests.support.namespaces import PATIENCE, wait_for

__all__ = ["RETIS", "Collect", "retis"]

RETIS = Path(sys.executable).with_name("retis")
ORACLE = Path(__file__).resolve().parents[2] / ".venv-oracle" / "bin" / "python"
#: compiling and attaching take about a second on a plain machine, and ten under emulation
START_PATIENCE = 180.0 if "RETIS_PY_LAB_SHARE" in os.environ else 30.0
READ_WITH_UPSTREAM = (
    "import retis, sys\nfor event in retis.EventReader(sys.argv[1]): print(event, end='\\n\\n')"
)


def retis(*arguments: object, prefix: tuple[str, ...] = (), timeout: float = START_PATIENCE, **settings):
    """Run ``retis ARGUMENTS`` to its end; *prefix* is a command to run it under."""
    return subprocess.run(
        [*prefix, str(RETIS), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=settings.pop("text", True),
        timeout=timeout,
        **settings,
    )


class Collect:
    """``retis collect ARGUMENTS -o FILE`` as a context manager: entered when every probe is attached."""

    def __init__(
        self,
        directory: Path,
        *arguments: object,
        main: tuple[object, ...] = (),
        file: Path | None = None,
    ) -> None:
        self.path = file or directory / "retis.data"
        self._ready = directory / "ready"
        self._output = directory / "stdout"
        self._errors = directory / "stderr"
        output = ("-o", self.path, "--ready-file", self._ready)
        self.command = [str(word) for word in (RETIS, *main, "collect", *arguments, *output)]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Collect:
        with self._output.open("wb") as stdout, self._errors.open("wb") as stderr:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, cwd=self._ready.parent
            )
        wait_for(
            lambda: self._ready.exists() or self.process.poll() is not None,
            f"{' '.join(self.command)} attached; so far: {self.stderr}",
            START_PATIENCE,
        )
        return self

    def __enter__(self) -> Collect:
        self.start()
        if not self._ready.exists():
            raise AssertionError(f"collect ended (exit {self.returncode}):\n{self.stderr}")
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        self.stop()
        if kind is None and self.returncode not in (0, -signal.SIGKILL):
            raise AssertionError(f"collect failed (exit {self.returncode}):\n{self.stderr}")

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Ask it to end and wait until it has."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.wait()

    def wait(self) -> int:
        """Wait for its end, brought about by ``--cmd``, ``--stop-after`` or a signal."""
        try:
            return self.process.wait(START_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"collect did not end:\n{self.stderr}") from None

    @property
    def returncode(self) -> int | None:
        return self.process.poll()

    @property
    def stderr(self) -> str:
        return self._errors.read_text(errors="replace") if self._errors.exists() else ""

    @property
    def stdout(self) -> str:
        return self._output.read_text(errors="replace")

    def series(self) -> list[list[Event]]:
        """The events as ``retis sort`` groups them, without the startup event; it may have nothing to warn of."""
        path = self._ready.with_name("sorted")
        done = retis("sort", "--max-buffer", 0, "-o", path, self.path)
        assert (done.returncode, "WARN" in done.stderr) == (0, False), done.stderr
        return [json.loads(line) for line in path.read_text().splitlines()][1:]

    @property
    def lines(self) -> list[str]:
        return self.path.read_text().splitlines()

    @property
    def events(self) -> list[Event]:
        """What probes reported: everything but the startup event."""
        return [event for event in map(json.loads, self.lines) if "startup" not in event]

    def at(self, symbol: str) -> list[Event]:
        """Events of one probe."""
        return [event for event in self.events if event["kernel"]["symbol"] == symbol]

    def expect(self, *patterns: Event) -> list[Event]:
        """The events that match *patterns*, in this order; others may be in between."""
        return find_in_order(self.events, patterns)

    def printed(self, *options: str) -> str:
        """``retis print`` of the file."""
        done = retis("print", *options, self.path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def read_by_upstream(self) -> str:
        """The same text from upstream's own reader, which shares no code with ours."""
        done = subprocess.run(
            [ORACLE, "-c", READ_WITH_UPSTREAM, self.path],
            text=True,
            capture_output=True,
            timeout=PATIENCE,
            env={**os.environ, "RUST_BACKTRACE": "0"},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout
