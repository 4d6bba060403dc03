"""Whether kernel memory is read without a helper."""

from __future__ import annotations

import errno
import struct

import pytest

from retis_py.kernel import direct as subject
from retis_py.kernel.bpf import BpfError


class Vmlinux:
    """BTF that knows the *names* given."""

    def __init__(self, **names: int) -> None:
        self.find = lambda name, kind: names.get(name)


KNOWN = Vmlinux(bpf_rdonly_cast=65458, timespec64=157)


def test_macros_name_function_and_type_where_the_kernel_takes_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    monkeypatch.setattr(subject.bpf, "load_program", lambda kind, name, code: loaded.append(code) or 99)
    monkeypatch.setattr(subject.os, "close", lambda fd: None)
    assert subject.direct_reads(KNOWN) == {"DIRECT_READS": 1, "RDONLY_CAST": 65458, "DIRECT_TYPE": 157}
    # r2 is the type, and the call is of the function
    numbers = [struct.unpack_from("=i", loaded[0], at + 4)[0] for at in range(0, len(loaded[0]), 8)]
    assert numbers[1:3] == [157, 65458]


def test_helpers_are_used_where_the_kernel_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise BpfError(errno.ENOTSUPP if hasattr(errno, "ENOTSUPP") else errno.EINVAL, "JIT is required")

    monkeypatch.setattr(subject.bpf, "load_program", refuse)
    assert subject.direct_reads(KNOWN)["DIRECT_READS"] == 0


@pytest.mark.parametrize("vmlinux", [Vmlinux(), Vmlinux(bpf_rdonly_cast=65458), Vmlinux(timespec64=157)])
def test_helpers_are_used_where_function_or_type_is_not_known(vmlinux: Vmlinux) -> None:
    assert subject.direct_reads(vmlinux)["DIRECT_READS"] == 0
