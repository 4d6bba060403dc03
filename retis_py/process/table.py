"""Events as tables: Arrow, Parquet, pandas. One row per event, one column per section, whatever a file holds.

The columns come from the types of the sections, never from the data: tables of different files can be put together.
Integers keep their width and sign, packets are binary, times are UTC to the nanosecond.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect as types

from retis_py.collectors import Event
from retis_py.errors import OutputError, RetisError
from retis_py.events.event import attribute
from retis_py.events.file import EventReader, open_events
from retis_py.events.section import INTEGER_NAMES
from retis_py.process.output import check_not_input

__all__ = ["read_table", "schema", "to_frame", "write_parquet"]

#: rows of a batch: what is held in memory at once when a file is written
_BATCH = 8192
_TIME, _SERIES = "time", "series"
#: not of a packet: its content is in the table's metadata
_STARTUP = "startup"


def _arrow() -> Any:
    try:
        import pyarrow
    except ImportError:
        raise RetisError("python module 'pyarrow' is not installed", "pip install 'retis_py[arrow]'") from None
    return pyarrow


def _merged(pa: Any, kinds: Iterable[types.StructType]) -> Any:
    """One structure for several that are told apart by a tag: the fields of all."""
    fields: dict[str, Any] = {}
    for kind in kinds:
        if kind.tag_field is not None:
            fields[kind.tag_field] = pa.string()
        for field in kind.fields:
            arrow = _type(pa, field.type)
            known = fields.setdefault(field.encode_name, arrow)
            if known != arrow:
                fields[field.encode_name] = max(known, arrow, key=lambda kind: kind.bit_width)
    return pa.struct(list(fields.items()))


def _type(pa: Any, kind: Any) -> Any:
    """The Arrow type of a msgspec type."""
    if isinstance(kind, types.UnionType):
        members = [member for member in kind.types if not isinstance(member, types.NoneType)]
        return _type(pa, members[0]) if len(members) == 1 else _merged(pa, members)  # type: ignore[arg-type]
    if isinstance(kind, types.StructType):
        return _merged(pa, [kind])
    if isinstance(kind, types.IntType):
        bounded = INTEGER_NAMES.get((kind.ge, kind.le))
        # what may be signed or not, up to 64 bits
        return pa.decimal128(20, 0) if bounded is None else getattr(pa, bounded)()
    if isinstance(kind, types.VarTupleType):
        return pa.list_(_type(pa, kind.item_type))
    if isinstance(kind, types.TupleType):
        return pa.list_(_type(pa, kind.item_types[0]), len(kind.item_types))
    if isinstance(kind, types.BoolType):
        return pa.bool_()
    return pa.binary() if isinstance(kind, types.BytesType) else pa.string()


@lru_cache(maxsize=1)
def schema() -> Any:
    """The Arrow schema of events. ``series`` is the number of the packet in a sorted file, else null."""
    pa = _arrow()
    root = types.type_info(Event)
    assert isinstance(root, types.StructType)
    columns = [(_TIME, pa.timestamp("ns", "UTC")), (_SERIES, pa.uint64())]
    columns += [
        (attribute(field.encode_name), _type(pa, field.type)) for field in root.fields if field.encode_name != _STARTUP
    ]
    return pa.schema(columns)


class _Rows:
    """Rows of a file, and the startup event that dates them."""

    def __init__(self, path: str | os.PathLike[str], rotate: bool) -> None:
        self._reader = open_events(path, Event, rotate)
        self.source = self._reader.source
        self.startup: Any = None
        self._offset: int | None = None

    def _row(self, event: Any, series: int | None) -> dict[str, Any] | None:
        if event.startup is not None:
            self.startup = self.startup or event.startup
            self._offset = event.startup.clock_monotonic_offset.nanoseconds()
            return None
        row = msgspec.to_builtins(event, builtin_types=(bytes,))
        out = {attribute(key): value for key, value in row.items()}
        if event.common is not None and self._offset is not None:
            time = event.common.timestamp + self._offset
            # a date that 64 bits of nanoseconds cannot hold is no date
            out[_TIME] = time if -(1 << 63) <= time < 1 << 63 else None
        out[_SERIES] = series
        return out

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if isinstance(self._reader, EventReader):
            pairs: Iterable[tuple[Any, int | None]] = ((event, None) for event in self._reader)
        else:
            groups = (series for series in self._reader if not self._is_startup(series))
            pairs = ((event, number) for number, series in enumerate(groups) for event in series)
        for event, number in pairs:
            row = self._row(event, number)
            if row is not None:
                yield row

    def _is_startup(self, series: list[Any]) -> bool:
        """Whether *series* is the startup event; if so it has been taken note of."""
        return all(event.startup is not None and self._row(event, None) is None for event in series)

    def metadata(self) -> dict[str, str]:
        """What the startup event tells of the collection."""
        if self.startup is None:
            return {}
        return {"retis": json.dumps(msgspec.to_builtins(self.startup), separators=(",", ":"))}


def _batches(pa: Any, rows: _Rows) -> Iterator[Any]:
    columns = schema()
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _BATCH:
            yield pa.RecordBatch.from_pylist(batch, columns)
            batch = []
    if batch:
        yield pa.RecordBatch.from_pylist(batch, columns)


def read_table(path: str | os.PathLike[str], rotate: bool = False) -> Any:
    """The events of a file, sorted or not, as ``pyarrow.Table``; with *rotate*, of the split files after it too."""
    pa = _arrow()
    rows = _Rows(path, rotate)
    table = pa.Table.from_batches(list(_batches(pa, rows)), schema())
    return table.replace_schema_metadata(rows.metadata())


def _flat(table: Any) -> Any:
    """*table* with the fields of structures as columns ``section.field``, and without those that are empty."""
    pa = _arrow()
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    return table.select([name for name in table.column_names if table[name].null_count < len(table)])


def to_frame(path: str | os.PathLike[str], rotate: bool = False) -> Any:
    """The events of a file as ``pandas.DataFrame``: a column per field that any of them has.

    Types stay Arrow's (``pandas.ArrowDtype``), so that 64-bit integers with gaps do not become floats.
    """
    _arrow()
    try:
        import pandas
    except ImportError:
        raise RetisError("python module 'pandas' is not installed", "pip install 'retis_py[pandas]'") from None
    return _flat(read_table(path, rotate)).to_pandas(types_mapper=pandas.ArrowDtype)


def write_parquet(path: str | os.PathLike[str], out: str | os.PathLike[str], rotate: bool = False) -> int:
    """Write the events of a file to the Parquet file *out*, in batches; returns how many there were."""
    pa = _arrow()
    from pyarrow import parquet

    rows = _Rows(path, rotate)
    count = 0
    partial = Path(f"{os.fspath(out)}.partial")
    for written in (out, partial):
        check_not_input(written, rows.source, "convert a file")
    try:
        with partial.open("wb") as file, parquet.ParquetWriter(file, schema(), compression="zstd") as writer:
            for batch in _batches(pa, rows):
                writer.write_batch(batch)
                count += batch.num_rows
            writer.add_key_value_metadata(rows.metadata())
        partial.replace(out)
    except OSError as error:
        raise OutputError(f"Could not create or write '{out}': {os.strerror(error.errno or 0)}") from None
    finally:
        partial.unlink(missing_ok=True)
    return count
