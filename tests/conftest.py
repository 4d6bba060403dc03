"""What all tests share: bytecode for the commands they start, and SIGHUP as they would get it from a shell.

Hundreds of tests run `retis` as a process of its own. Where Python is told to write no bytecode, or may not, each
would compile all modules again, which takes longer than most of what is tested.
"""

from __future__ import annotations

import logging
import os
import signal
import tempfile
from collections.abc import Iterator

import pytest

_CACHE = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


def pytest_configure(config: pytest.Config) -> None:
    # ignored if the tests run under nohup, which commands would respect
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
        config.stash[_CACHE] = cache = tempfile.TemporaryDirectory(prefix="retis-bytecode-")
        os.chmod(cache.name, 0o755)  # some are started as another user
        os.environ["PYTHONPYCACHEPREFIX"] = cache.name


def pytest_unconfigure(config: pytest.Config) -> None:
    if _CACHE in config.stash:
        config.stash[_CACHE].cleanup()


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """A command run in this process sets the log up for its own."""
    logger = logging.getLogger("retis_py")
    handlers, propagate, level = logger.handlers[:], logger.propagate, logger.level
    yield
    logger.handlers[:], logger.propagate = handlers, propagate
    logger.setLevel(level)
