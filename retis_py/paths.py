"""Where the files that are not Python are: BPF sources and built-in profiles.

In a checkout (also an editable install) they are beside the package, in ``bpf/`` and ``profiles/``; a wheel
carries them inside it, in ``retis_py/_data/``.
"""

from __future__ import annotations

from pathlib import Path

from retis_py.errors import RetisError

__all__ = ["bpf_dir", "profiles_dir"]

_PACKAGE = Path(__file__).resolve().parent


def _find(name: str) -> Path:
    for parent in (_PACKAGE / "_data", _PACKAGE.parent):
        if (parent / name).is_dir():
            return parent / name
    raise RetisError(f"data directory '{name}' is missing from this installation", "reinstall retis_py")


def bpf_dir() -> Path:
    """The directory of the BPF sources."""
    return _find("bpf")


def profiles_dir() -> Path:
    """The directory of the built-in profiles."""
    return _find("profiles")
