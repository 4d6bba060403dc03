"""Events of several CPUs leave in order of time, and none is kept longer than it must."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from retis_py.kernel.merge import TimeOrder


def raw(timestamp: int, cpu: int = 0) -> bytes:
    return struct.pack("=QI", timestamp, cpu)


def times(events: list[bytes]) -> list[int]:
    return [struct.unpack_from("=Q", event)[0] for event in events]


@given(st.lists(st.lists(st.integers(0, 10**6)), max_size=4))
def test_everything_leaves_in_order_at_the_end(cpus: list[list[int]]) -> None:
    order = TimeOrder()
    for cpu, timestamps in enumerate(cpus):
        for timestamp in sorted(timestamps):
            order.add(raw(timestamp, cpu))
    assert times(order.ready(None)) == sorted(t for timestamps in cpus for t in timestamps)
    assert order.ready(None) == []


def test_recent_events_wait_for_what_may_still_come_before_them() -> None:
    order = TimeOrder(hold=100)
    order.add(raw(1000))
    order.add(raw(1050))
    assert times(order.ready(order.limit(1101))) == [1000]
    order.add(raw(1020, cpu=1))  # began earlier, was read later
    assert times(order.ready(order.limit(1151))) == [1020, 1050]
    assert order.late == 0


def test_events_wait_for_a_hit_that_is_under_way() -> None:
    order = TimeOrder(hold=100)
    for timestamp in (1000, 1010, 1020):
        order.add(raw(timestamp))
    assert times(order.ready(order.limit(2000, under_way=1010))) == [1000]
    assert times(order.ready(order.limit(3000, under_way=1))) == []  # it began at any time after the last look
    order.add(raw(1010, cpu=1))
    assert times(order.ready(order.limit(4000))) == [1010, 1010, 1020]
    assert order.late == 0


def test_event_that_comes_too_late_is_delivered_and_counted() -> None:
    order = TimeOrder(hold=100)
    order.add(raw(1000))
    assert times(order.ready(2000)) == [1000]
    order.add(raw(900))
    order.add(raw(950))
    order.add(raw(1001))
    assert times(order.ready(2000)) == [900, 950, 1001]
    assert order.late == 2
