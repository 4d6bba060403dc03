"""A run that ends badly still gives back what it has."""

from __future__ import annotations

import pytest

from retis_py.collectors.base import Collector
from retis_py.kernel.collection import Collection, Options


class Changing(Collector):
    """Changes the system, and cannot undo it if *why* is given."""

    def __init__(self, why: str = "") -> None:
        super().__init__()
        self.why, self.stopped = why, 0

    def stop(self) -> None:
        self.stopped += 1
        if self.why:
            raise OSError(self.why)


class Process:
    closed = 0

    def close(self) -> None:
        self.closed += 1


def test_collector_that_cannot_stop_does_not_keep_the_others_from_it() -> None:
    collection, process = Collection(Options()), Process()
    collectors = [Changing("one"), Changing(), Changing("three"), Changing()]
    collection._collectors, collection._process = collectors, process  # type: ignore[assignment]
    with pytest.raises(OSError, match="three") as error:
        collection.close()
    assert str(error.value.__context__) == "one"
    assert [collector.stopped for collector in collectors] == [1, 1, 1, 1]
    assert process.closed == 1
    collection.close()
    assert [collector.stopped for collector in collectors] == [1, 1, 1, 1]
