"""Events as tables: every field arrives with its value, whatever a file holds."""

from __future__ import annotations

import base64
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import retis_py
from retis_py.errors import EventFileError, RetisError
from tests.support import sections
from tests.support.oracle import STARTUP

pa = pytest.importorskip("pyarrow")
table = pytest.importorskip("retis_py.process.table")

OFFSET = STARTUP["startup"]["clock_monotonic_offset"]


def events(seed: int, count: int) -> list[dict[str, Any]]:
    """Random ones of what probes report."""
    made = (event for event in sections.events(seed, 2 * count) if "startup" not in event)
    return list(itertools.islice(made, count))


def write(path: Path, *items: Any) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


def expected(event: dict[str, Any]) -> dict[str, Any]:
    """The event as its file has it, with the names of columns and packets as bytes."""
    out = {key.replace("-", "_"): value for key, value in event.items()}
    if out.get("packet"):
        out["packet"] = {**out["packet"], "data": base64.b64decode(out["packet"]["data"])}
    return out


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: part for key, item in value.items() if (part := without_nulls(item)) is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def test_every_value_of_every_section_is_in_the_table(tmp_path: Path) -> None:
    """Read back from the table, events are those of the file: 300 with all sections and variants."""
    given = events(11, 300)
    rows = retis_py.to_arrow(write(tmp_path / "f", STARTUP, *given)).to_pylist()
    assert len(rows) == len(given)
    for row, event in zip(rows, given):
        del row["time"], row["series"]
        assert without_nulls(row) == without_nulls(expected(event))


def test_columns_do_not_depend_on_the_data(tmp_path: Path) -> None:
    few = retis_py.to_arrow(write(tmp_path / "a", STARTUP, {"common": {"timestamp": 1}}))
    many = retis_py.to_arrow(write(tmp_path / "b", STARTUP, *events(3, 50)))
    assert few.schema.equals(many.schema)
    assert pa.concat_tables([few, many]).num_rows == 51
    assert few.schema.field("skb_tracking").type.field("timestamp").type == pa.uint64()


def test_times_are_utc_to_the_nanosecond(tmp_path: Path) -> None:
    got = retis_py.to_arrow(write(tmp_path / "f", STARTUP, {"common": {"timestamp": 7}}))
    assert str(got.schema.field("time").type) == "timestamp[ns, tz=UTC]"
    assert got["time"].cast(pa.int64()).to_pylist() == [OFFSET["sec"] * 10**9 + OFFSET["nsec"] + 7]


def test_collection_is_in_the_metadata(tmp_path: Path) -> None:
    got = retis_py.to_arrow(write(tmp_path / "f", STARTUP, {"common": {"timestamp": 7}}))
    assert json.loads(got.schema.metadata[b"retis"])["cmdline"] == STARTUP["startup"]["cmdline"]


def test_rows_of_a_sorted_file_name_their_packet(tmp_path: Path) -> None:
    one, two = ({"common": {"timestamp": n}} for n in (1, 2))
    got = retis_py.to_arrow(write(tmp_path / "f", [STARTUP], [one, two], [one]))
    assert got["series"].to_pylist() == [0, 0, 1]


def test_large_integers_survive_pandas(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    big = 0xFFFF_8881_17BA_0CE1
    tracked = {"common": {"timestamp": 1}, "skb-tracking": {"orig_head": big, "timestamp": 1, "skb": big}}
    frame = retis_py.to_pandas(write(tmp_path / "f", STARTUP, tracked, {"common": {"timestamp": 2}}))
    assert frame["skb_tracking.orig_head"].tolist()[0] == big
    assert "nft.verdict" not in frame.columns and frame["common.timestamp"].tolist() == [1, 2]


def retis(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "retis_py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


def test_export_writes_what_the_library_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyarrow import parquet

    path = write(tmp_path / "f", STARTUP, *events(12, 100))
    done = retis("export", "--parquet", tmp_path / "x.parquet", path)
    assert (done.returncode, done.stderr) == (0, "100 event(s) were written\n")
    stored = parquet.read_table(tmp_path / "x.parquet")
    assert stored.to_pylist() == retis_py.to_arrow(path).to_pylist()
    assert b"retis" in parquet.ParquetFile(tmp_path / "x.parquet").metadata.metadata
    # in batches, all the same
    monkeypatch.setattr(table, "_BATCH", 7)
    assert table.write_parquet(path, tmp_path / "y.parquet") == 100
    assert parquet.read_table(tmp_path / "y.parquet").equals(stored)


def test_export_reads_split_files(tmp_path: Path) -> None:
    for index in range(2):
        startup = json.loads(json.dumps(STARTUP))
        startup["startup"]["split_file"] = {"id": index, "policy": {"kind": "size", "limit": 1}}
        write(tmp_path / f"retis.data.{index}", startup, {"common": {"timestamp": index}})
    assert retis("export", "--parquet", "x", "retis.data.0..", cwd=tmp_path).stderr == "2 event(s) were written\n"
    assert retis_py.to_arrow(tmp_path / "retis.data.0", rotate=True).num_rows == 2


def test_nothing_half_written_is_left(tmp_path: Path) -> None:
    path = write(tmp_path / "f", STARTUP, {"common": {"timestamp": 1}}, {"common": {"timestamp": "x"}})
    done = retis("export", "--parquet", tmp_path / "x.parquet", path)
    assert done.returncode == 1 and done.stderr.startswith(f"Error: {path}: line 3: ")
    assert sorted(tmp_path.iterdir()) == [path]
    with pytest.raises(EventFileError):
        retis_py.to_arrow(path)
    done = retis("export", "--parquet", tmp_path / "no" / "x.parquet", write(path, STARTUP))
    assert done.stderr == f"Error: Could not create or write '{tmp_path}/no/x.parquet': No such file or directory\n"


def test_a_missing_library_is_named_with_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(RetisError, match="'pyarrow' is not installed") as caught:
        table.read_table("x")
    assert caught.value.hint == "pip install 'retis_py[arrow]'"
