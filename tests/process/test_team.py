"""Several processes at the blocks of a file: in order, all of them, and no hang whatever happens to one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from retis_py.errors import EventFileError, RetisError
from retis_py.events import source
from retis_py.events.source import Block, EventSource
from retis_py.process import team
from retis_py.process.team import Written, map_blocks, write_blocks
from tests.process.conftest import Json, Share, Write

LINES = 2000


def event(number: int) -> Json:
    return {"common": {"timestamp": number}, "x": "y" * (number % 90)}


@pytest.fixture
def file(write: Write) -> EventSource:
    return EventSource(write(*map(event, range(LINES))))


def data(block: Block) -> bytes:
    return block.data


def die() -> None:
    os.kill(os.getpid(), 9)


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("size", [16, 1000, 1 << 20])
def test_blocks_are_all_lines_in_order(file: EventSource, share: Share, workers: int, size: int) -> None:
    share(workers, size)
    got = list(map_blocks(file, data))
    assert b"".join(got) == Path(file.path).read_bytes()
    assert all(block.endswith(b"\n") for block in got)
    assert file.done == file.size()


@pytest.mark.parametrize("workers", [1, 3])
def test_split_files_are_one_after_the_other(write: Write, share: Share, workers: int) -> None:
    startup: Any = {"startup": {"retis_version": "1.7.0", "split_file": {}}}
    paths = [write(*map(event, range(size)), name=f"x.{n}", startup=startup) for n, size in enumerate([9, 0, 70])]
    paths[1].write_bytes(b"")
    share(workers, 300)
    got = list(map_blocks(EventSource(paths[0], rotate=True), lambda block: (block.path, block.offset, block.data)))
    assert b"".join(data for _, _, data in got) == b"".join(path.read_bytes() for path in paths)
    for path, offset, lines in got:
        assert Path(path).read_bytes()[offset : offset + len(lines)] == lines


def test_work_is_shared(file: EventSource, share: Share) -> None:
    """Who is held up takes fewer blocks: here the first process that has one waits until all others are done."""
    share(2, 1000)
    end, release = os.pipe()
    last = os.path.getsize(file.path) - 1

    def work(block: Block) -> int:
        if not block.offset:
            os.read(end, 1)
        if block.offset + len(block.data) > last:
            os.write(release, b"x")
        return os.getpid()

    first, *others = map_blocks(file, work)
    assert others and first not in others
    os.close(end)
    os.close(release)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_each_block_gets_the_state_after_the_one_before(
    file: EventSource, share: Share, workers: int, tmp_path: Path
) -> None:
    """The state changes with every block, so that all guesses are wrong."""
    share(workers, 700)

    def work(block: Block, state: int | None) -> Written:
        number = (state or 0) + 1
        return Written(b"%d " % number, number, (block.offset, number), None)

    with (tmp_path / "out").open("wb") as out:
        results = list(write_blocks(file, work, out.fileno()))
    numbers = list(range(1, len(results) + 1))
    assert [number for _, number in results] == numbers
    assert sorted(results) == results
    assert (tmp_path / "out").read_text().split() == list(map(str, numbers))


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_an_error_comes_after_the_results_before_it(file: EventSource, share: Share, workers: int) -> None:
    share(workers, 1000)
    middle = os.path.getsize(file.path) // 2

    def work(block: Block) -> int:
        if block.offset + len(block.data) > middle:
            raise RetisError("no further", "stop")
        return len(block.data)

    seen = 0
    with pytest.raises(RetisError, match="no further") as caught:
        for size in map_blocks(file, work):
            seen += size
    assert caught.value.hint == "stop"
    assert middle - 1000 < seen <= middle


@pytest.mark.parametrize("workers", [1, 2])
def test_endless_line_is_refused_when_it_is_reached(
    write: Write, share: Share, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    share(workers, 1000)
    monkeypatch.setattr(source, "MAX_LINE", 5000)
    path = write(*map(event, range(50)), {"x": "y" * 6000}, event(1))
    before = path.read_bytes().split(b"y" * 6000)[0].rpartition(b"\n")[0] + b"\n"
    got = []
    with pytest.raises(EventFileError, match="line 52: longer than"):
        for lines in map_blocks(EventSource(path), data):
            got.append(lines)
    assert b"".join(got) == before


@pytest.mark.parametrize("workers", [1, 3])
def test_told_to_stop_it_soon_does_and_nothing_is_cut(
    file: EventSource, share: Share, workers: int, tmp_path: Path
) -> None:
    share(workers, 500)
    first = [block.offset for block in file.blocks()][:workers]
    told, tell = os.pipe()

    def work(block: Block, state: None) -> Written:
        if block.offset not in first:
            os.read(told, 1)
        return Written(block.data, None, len(block.data), None)

    size = 0
    with (tmp_path / "out").open("wb") as output:
        for number, length in enumerate(write_blocks(file, work, output.fileno(), lambda: True)):
            size += length
            if number == 1:
                os.write(tell, bytes(1000))
    written = (tmp_path / "out").read_bytes()
    assert len(written) == size < 500 * 10 * workers
    assert Path(file.path).read_bytes().startswith(written) and written.endswith(b"\n")
    os.close(told)
    os.close(tell)


def test_nothing_is_taken_any_more_once_told_to_stop(file: EventSource) -> None:
    places = team._Places([file.path], 1)
    first, blocks = places.take(0)
    assert (first, len(blocks)) == (0, 1)
    places.end()
    assert places.take(1) == (1, []) == places.take(0)
    places.close()


@pytest.mark.parametrize("where", ["reading", "working"])
def test_killed_worker_is_an_error_and_no_hang(
    file: EventSource, share: Share, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    share(2, 1000)
    if where == "reading":
        read = team.read_block
        monkeypatch.setattr(team, "read_block", lambda *args: read(*args) if args[2] < 5000 else die())

    def work(block: Block, state: None) -> Written:
        if where == "working" and block.offset > 5000:
            die()
        return Written(b"", None, None, None)

    with pytest.raises(RetisError, match="worker process ended unexpectedly"):
        list(write_blocks(file, work, 1))
