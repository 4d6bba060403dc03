"""Tests in a kernel that can be traced in full; ``make test-kernels`` provides some."""

import pytest

from tests.support.fixtures import collect, three_ns, two_ns
from tests.support.tracing import refuse_unless, why_no_kprobes

__all__ = ["collect", "three_ns", "two_ns"]


@pytest.fixture(scope="session")
def _why_not():
    return why_no_kprobes()


@pytest.fixture(autouse=True)
def _traceable(_why_not):
    refuse_unless(_why_not)
