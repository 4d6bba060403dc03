"""What becomes of the output file when a collection does not come about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from retis_py.cli import collect as subject
from retis_py.errors import KernelError, OutputError
from retis_py.events.section import PLAIN
from retis_py.kernel.options import Options


class Refused:
    """A collection whose programs the kernel refuses."""

    options = Options()
    closed = False

    def attach(self) -> None:
        raise KernelError("too complex")

    def close(self) -> None:
        self.closed = True


def collect(collection: Any, out: Path) -> None:
    subject._collect(collection, PLAIN, subject._Output(str(out), None, None), False, None)


def test_file_keeps_what_it_had_if_nothing_can_be_attached(tmp_path: Path) -> None:
    out, refused = tmp_path / "retis.data", Refused()
    out.write_text("of yesterday\n")
    with pytest.raises(KernelError, match="too complex"):
        collect(refused, out)
    assert out.read_text() == "of yesterday\n"
    assert refused.closed


@pytest.mark.parametrize("name", ["", "missing/retis.data"])
def test_file_that_cannot_be_is_told_before_anything_is_attached(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match="Could not create or open"):
        collect(Refused(), tmp_path / name)
