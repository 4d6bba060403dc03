"""What this kernel, and our rights on it, allow: asked for, never concluded from a version."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from retis_py.errors import KernelError
from retis_py.kernel.btf import Btf

__all__ = ["check_rights", "has_kprobes", "kprobe_multi", "lockdown"]

_log = logging.getLogger(__name__)

# include/uapi/linux/capability.h
_CAP_SYS_ADMIN, _CAP_BPF = 21, 39


def _capabilities(status: Path = Path("/proc/self/status")) -> int:
    for line in status.read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def check_rights() -> None:
    """Raises KernelError for the first right that is missing; warns in an unprivileged user namespace."""
    if os.stat("/proc").st_uid != 0:
        _log.warning("Likely in an unprivileged user namespace: BPF calls may fail with EPERM")
    held = _capabilities()
    hint = "run as root, or: setcap cap_sys_admin,cap_bpf,cap_perfmon,cap_syslog=ep on the interpreter"
    if not held >> _CAP_SYS_ADMIN & 1:
        raise KernelError("Retis does not have CAP_SYS_ADMIN: can't load BPF programs.", hint)
    if not held >> _CAP_BPF & 1:
        raise KernelError("Retis does not have CAP_BPF: can't install probes.", hint)


def has_kprobes() -> bool:
    """Can a program be attached to a kprobe? The perf PMU of that name says so."""
    # os.path: until Python 3.12 Path.exists() raises EACCES
    return os.path.exists("/sys/bus/event_source/devices/kprobe/type")


def kprobe_multi(vmlinux: Btf) -> bool:
    """Can a program be attached to many functions at once?

    Linux commit 0dcac2725406 ("bpf: Add multi kprobe link") (in v5.18), where built with CONFIG_FPROBE: without that,
    register_fprobe_ips() is an inline function, which BTF does not have.
    """
    known = "BPF_TRACE_KPROBE_MULTI" in (vmlinux.enum("bpf_attach_type") or {})
    return known and vmlinux.function("register_fprobe_ips") is not None


def lockdown(path: Path = Path("/sys/kernel/security/lockdown")) -> str:
    """``none``, ``integrity`` or ``confidentiality``; ``none`` too where it cannot be told."""
    try:
        text = path.read_text()
    except OSError:
        return "none"
    return text[text.find("[") + 1 : text.find("]")] if "[" in text else "none"
