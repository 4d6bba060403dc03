"""Tests on this machine's own kernel: what raw tracepoints can show (reduced mode, if it has no kprobes)."""

import pytest

from tests.support.fixtures import collect, three_ns, two_ns
from tests.support.tracing import refuse_unless, why_no_tracepoints

__all__ = ["collect", "three_ns", "two_ns"]


@pytest.fixture(scope="session")
def _why_not():
    return why_no_tracepoints()


@pytest.fixture(autouse=True)
def _traceable(_why_not):
    refuse_unless(_why_not)
