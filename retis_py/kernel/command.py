"""The command of ``--cmd``: the run ends when it does."""

from __future__ import annotations

import logging
import signal
import subprocess

__all__ = ["Command"]

_log = logging.getLogger(__name__)


class Command:
    """*text*, run by a shell, without input or output. One that cannot be run is warned about and never ends."""

    def __init__(self, text: str) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._process = subprocess.Popen(["sh", "-c", text], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        except OSError as error:
            _log.warning("could not run the command: %s", error.strerror)

    def ended(self) -> bool:
        """Has it? Tells how."""
        if self._process is None or self._process.poll() is None:
            return False
        status = self._process.returncode
        said = f"exit status: {status}" if status >= 0 else f"signal: {-status} ({_signal_name(-status)})"
        _log.info("Command returned (%s), terminating ...", said)
        return True

    def terminate(self) -> None:
        """End it, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
