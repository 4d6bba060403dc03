"""Boot a lab kernel and run a command in it, on this machine's own files; changes to them are thrown away.

    .venv/bin/python -m tests.lab.boot 6.12 -- uname -r
    .venv/bin/python -m tests.lab.boot 7.2 -- .venv/bin/retis collect -f icmp --cmd 'ping -c1 127.0.0.1'
    .venv/bin/python -m tests.lab.boot 6.1 --timeout 300 -- bash -c 'bpftool prog; dmesg | tail'

KERNEL is a key of `tests.lab.kernels.KERNELS` (6.1, 6.12, 7.2); it is downloaded when it is not there yet.
The command runs as root in the current directory; its output is shown as it comes (stderr included) and its
exit status is ours. The guest has BTF, tracefs, debugfs, bpffs, the usual network modules, ``lo`` up, IPv6
off and a writable /tmp. Files that must survive it go to ``$RETIS_PY_LAB_SHARE`` (``.cache/lab/KERNEL`` in
the repository), where the kernel's console is too: ``console.log``.

One lab at a time: a second one waits for the first. ``RETIS_PY_LAB_KVM=0`` or ``1`` overrides the test for
KVM.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tests.lab.kernels import KERNELS, FetchError, Kernel, cache_dir, fetch

__all__ = ["LabError", "Result", "boot", "lab_lock", "share_of"]

#: the working tree: shared with the guest read-only, but for ``.cache/lab``
REPOSITORY = Path(__file__).resolve().parents[2]
GUEST_SCRIPT = Path(__file__).with_name("guest.sh")
#: room for LLVM, page cache of the shared root and a test suite
MEMORY = "4G"
CPUS = 2
CONSOLE_TAIL = 40
#: the root file system once more, for guest.sh to mount with a cache
CACHED_ROOT = (
    "-fsdev local,id=cached,path=/,security_model=none,readonly=on,multidevs=remap "
    "-device virtio-9p-pci,fsdev=cached,mount_tag=cached"
)
#: a kernel that is up answers within this on KVM; one that hangs there is run under emulation instead
KVM_PATIENCE = 60
BOOT_ATTEMPTS = 3

#: runs its arguments, and ends them when its standard input closes: when we are gone, for whatever reason
GUARD = '"$@" </dev/null & machine=$!; exec 3<&0; { read -r _ <&3; kill -KILL 0; } & wait $machine'


class LabError(RuntimeError):
    """The virtual machine could not be started, died, or did not end in time."""


@dataclass(frozen=True)
class Result:
    """A finished boot: exit status of the command, directory it could write to, seconds it took."""

    status: int
    share: Path
    seconds: float


def boot(kernel: Kernel, command: list[str], timeout: float = 1800, output: BinaryIO | None = None) -> Result:
    """Run *command* in *kernel*; its output goes to *output* (default: our stdout)."""
    with lab_lock():
        _compile()
        kvm = _kvm_works(kernel)
        for attempt in range(BOOT_ATTEMPTS):
            try:
                return _boot(kernel, command, timeout, output or sys.stdout.buffer, kvm)
            except LabError:
                # under emulation a kernel now and then crashes while it patches its own code at boot
                if (share_of(kernel.name) / "up").exists() or attempt == BOOT_ATTEMPTS - 1:
                    raise
                print(f"lab: kernel {kernel.name} did not come up, trying again", file=sys.stderr, flush=True)
    raise AssertionError("unreachable")


def _compile() -> None:
    """Leave compiled modules in the tree: the guest cannot keep any, and would compile them at each start."""
    subprocess.run(
        [sys.executable, "-m", "compileall", "-q", "retis_py", "tests"], cwd=REPOSITORY, check=False
    )


def share_of(name: str) -> Path:
    """The directory that kernel *name* can write to, emptied at every boot."""
    return REPOSITORY / ".cache" / "lab" / name


def _boot(kernel: Kernel, command: list[str], timeout: float, output: BinaryIO, kvm: bool) -> Result:
    share = share_of(kernel.name)
    shutil.rmtree(share, ignore_errors=True)
    share.mkdir(parents=True)
    # a script: the kernel command line, which carries what the guest runs first, ends at 2,048 bytes
    (share / "command").write_text(f"cd {shlex.quote(os.getcwd())} && {shlex.join(command)}\n")
    console = share / "console.log"
    start = time.monotonic()
    machine = subprocess.Popen(
        ["sh", "-c", GUARD, "lab", *_vng(kernel, share, kvm)],
        cwd=REPOSITORY,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin:/sbin"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    with console.open("wb") as log, (share / "output.log").open("w+b") as printed:
        keeper = threading.Thread(target=shutil.copyfileobj, args=(machine.stdout, log, 1024), daemon=True)
        keeper.start()
        try:
            while machine.poll() is None and time.monotonic() < start + timeout:
                time.sleep(0.1)
                _show(printed, output)
            ended = machine.poll() is not None
        finally:
            _end(machine)
        keeper.join(10)
        _show(printed, output)
    status = share / "status"
    if status.exists():
        return Result(int(status.read_text()), share, time.monotonic() - start)
    how = f"the guest died (exit {machine.returncode})" if ended else f"no end after {timeout:.0f} s"
    raise LabError(f"kernel {kernel.name}: {how}{_tail(console)}")


def _vng(kernel: Kernel, share: Path, kvm: bool) -> list[str]:
    vng = Path(sys.executable).with_name("vng")
    if not vng.exists():
        raise LabError("virtme-ng is not installed in this environment (make test does it)")
    if shutil.which("qemu-system-x86_64") is None:
        raise LabError("qemu-system-x86_64 is missing (Debian/Ubuntu: qemu-system-x86)")
    return [
        str(vng),
        "--run",
        str(kernel.image),
        "--verbose",
        *([] if kvm else ["--disable-kvm"]),
        "--disable-microvm",
        "--memory",
        MEMORY,
        "--cpus",
        str(CPUS),
        "--user",
        "root",
        f"--rwdir={share}",
        f"--qemu-opts={CACHED_ROOT}",
        "--append",
        "panic=-1 oops=panic nokaslr mitigations=off",
        "--exec",
        shlex.join(["bash", str(GUEST_SCRIPT), str(share)]),
    ]


def _show(printed: BinaryIO, output: BinaryIO) -> None:
    """Pass on what the command printed since the last call.

    It comes through a file: virtual serial ports need standard streams that can be opened again by name,
    which pipes and sockets of a CI runner cannot.
    """
    if text := printed.read():
        output.write(text)
        output.flush()


def _end(machine: subprocess.Popen) -> None:
    """Nothing of the virtual machine outlives the call: it has a process group of its own (see GUARD)."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(machine.pid, signal.SIGKILL)
    machine.wait()


def _tail(console: Path) -> str:
    lines = console.read_text(errors="replace").splitlines()[-CONSOLE_TAIL:]
    return f"; end of {console}:\n" + "\n".join(lines)


@contextlib.contextmanager
def lab_lock() -> Iterator[None]:
    """Only one lab runs at a time: two emulated machines on two cores make every timeout a lottery."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    with (cache_dir() / "lab.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("lab: another lab is running, waiting for it to end", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _kvm_works(kernel: Kernel) -> bool:
    """Whether a guest really boots with KVM here; nested or restricted set-ups offer /dev/kvm and then hang.

    Tried once per host boot and remembered.
    """
    wish = os.environ.get("RETIS_PY_LAB_KVM")
    if wish in ("0", "1"):
        return wish == "1"
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    host = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    memory = cache_dir() / "kvm"
    if memory.exists() and memory.read_text().split()[0] == host:
        return memory.read_text().split()[1] == "yes"
    try:
        works = _boot(kernel, ["true"], KVM_PATIENCE, sys.stderr.buffer, kvm=True).status == 0
    except LabError:
        works = False
    memory.write_text(f"{host} {'yes' if works else 'no'}\n")
    print(f"lab: KVM {'works' if works else 'does not boot a guest: using emulation'}", file=sys.stderr)
    return works


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.lab.boot")
    parser.add_argument("kernel", choices=KERNELS)
    parser.add_argument("--timeout", type=float, default=1800, help="seconds in all (default: 1800)")
    parser.add_argument("command", nargs="+", help="after --")
    arguments = parser.parse_args()
    try:
        result = boot(fetch(arguments.kernel), arguments.command, arguments.timeout)
    except (FetchError, LabError) as error:
        sys.exit(f"lab: {error}")
    sys.exit(result.status)


if __name__ == "__main__":
    main()
