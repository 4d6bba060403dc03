"""Fixtures of this directory."""

from tests.support.unixctl import daemon

__all__ = ["daemon"]
