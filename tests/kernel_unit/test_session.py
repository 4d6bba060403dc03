"""What is said when the kernel refuses a program."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest

from retis_py.kernel import session as subject

BLAME = " (the packet filter has 812 instructions)"


@pytest.mark.parametrize(
    ("number", "log"),
    [
        (errno.E2BIG, ""),
        (errno.E2BIG, "BPF program is too large. Processed 1000001 insn\nprocessed 1000001 insns\n"),
        (errno.EFAULT, "The sequence of 8193 jumps is too complex.\nprocessed 9000 insns\n"),
    ],
)
def test_complexity_is_told_with_the_sizes_and_without_the_log(number: int, log: str) -> None:
    error = subject._load_error("kprobe_3", 5000, number, log, BLAME)
    assert str(error) == f"BPF program kprobe_3 (5000 instructions) is too complex for this kernel{BLAME}"
    assert "simpler filter" in (error.hint or "")


def test_other_refusals_are_told_in_the_last_words_of_the_log() -> None:
    log = "0: (b7) r0 = 0\nR4 !read_ok\nprocessed 3 insns (limit 1000000)\n"
    assert str(subject._load_error("kprobe_3", 51, errno.EACCES, log, BLAME)).endswith("(51 instructions): R4 !read_ok")


def test_missing_right_is_no_fault_of_the_program() -> None:
    assert "not permitted" in str(subject._load_error("kprobe_3", 51, errno.EPERM, "", BLAME))


def test_functions_attached_one_by_one_may_be_more_than_the_shell_lets_files_be_open() -> None:
    code = """
import resource
from retis_py.kernel.session import _allow_files
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
_allow_files(1000)
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) >= 2024
