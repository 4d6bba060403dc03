"""Stock distribution kernels for the lab: resolve, download, unpack, remember.

    .venv/bin/python -m tests.lab.kernels            # fetch all of them
    .venv/bin/python -m tests.lab.kernels 6.12 7.2   # these

Packages come from Debian through apt, with sources, lists and cache of its own: the system's apt
configuration is neither used nor touched, no root is needed, and it works wherever ``apt-get`` and ``dpkg``
exist. Package versions move, so they are resolved at run time, never pinned. A kernel once unpacked needs no
network any more.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["KERNELS", "FetchError", "Kernel", "cache_dir", "fetch"]

#: kernel -> (Debian suite, regular expression of its image package), oldest first
KERNELS = {
    "6.1": ("bookworm", r"linux-image-6\.1\.[\w.+~-]*\d-amd64"),
    "6.12": ("bookworm-backports", r"linux-image-6\.12\.[\w.+~-]*-amd64-unsigned"),
    "7.2": ("sid", r"linux-image-7\.2\.[\w.+~-]*\d-amd64"),
}
#: what a kernel is split into, depending on the release of the distribution
PARTS = re.compile(r"linux-(image|binary|modules|base)-\d[\w.+~-]*-amd64(-unsigned)?$")
#: images of the same version we do not want: real-time and cloud flavours
FLAVOUR = re.compile(r"-(rt|cloud)-")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
FALLBACK_MIRROR = "http://deb.debian.org/debian"
RETRIES = 4


class FetchError(RuntimeError):
    """A kernel is neither in the cache nor can it be downloaded."""


@dataclass(frozen=True)
class Kernel:
    """An unpacked kernel: *root* holds ``boot/vmlinuz-RELEASE`` and ``lib/modules/RELEASE``."""

    name: str
    release: str
    root: Path

    @property
    def image(self) -> Path:
        return self.root / "boot" / f"vmlinuz-{self.release}"


def cache_dir() -> Path:
    """Where the lab keeps what is expensive to get again."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "retis_py"


def fetch(name: str) -> Kernel:
    """The kernel called *name* (a key of `KERNELS`), from the cache or else downloaded into it."""
    if name not in KERNELS:
        raise FetchError(f"unknown kernel {name}: choose one of {', '.join(KERNELS)}")
    place = cache_dir() / "kernels" / name
    kernel = _unpacked(name, place)
    if kernel is None:
        _download(name, place)
        kernel = _unpacked(name, place)
    if kernel is None:
        raise FetchError(f"kernel {name}: no image with modules in {place} after unpacking")
    return kernel


def _unpacked(name: str, place: Path) -> Kernel | None:
    """The usable kernel in *place*: it has an image, modules, and modules.dep (written last)."""
    for image in sorted(place.glob("boot/vmlinuz-*"), reverse=True):
        release = image.name.partition("-")[2]
        if (place / "lib" / "modules" / release / "modules.dep").exists():
            return Kernel(name, release, place)
    return None


def _download(name: str, place: Path) -> None:
    """Download and unpack beside *place* and rename when complete: a stopped run leaves nothing half done."""
    for tool in ("apt-get", "apt-cache", "dpkg", "depmod"):
        if shutil.which(tool) is None:
            raise FetchError(f"{tool} is missing: cannot download kernel {name} (install apt, dpkg and kmod)")
    suite, image = KERNELS[name]
    work = place.with_name(f".{name}.new")
    shutil.rmtree(work, ignore_errors=True)
    tree = work / "tree"
    tree.mkdir(parents=True)
    apt = _Apt(work / "apt", suite)
    print(f"lab: fetching kernel {name} from {apt.mirror} {suite}", file=sys.stderr, flush=True)
    apt.update()
    packages = _closure(apt, _newest(apt, image))
    for deb in apt.download(packages):
        subprocess.run(["dpkg", "-x", deb, tree], check=True)
    _unify(tree)
    for modules in tree.glob("lib/modules/*"):
        subprocess.run(["depmod", "-b", tree, modules.name], check=True)
    shutil.rmtree(place, ignore_errors=True)
    tree.rename(place)
    shutil.rmtree(work)


def _newest(apt: _Apt, image: str) -> str:
    """The package whose name matches *image*, the highest version of those."""
    names = [n for n in apt.names("linux-image-") if re.fullmatch(image, n) and not FLAVOUR.search(n)]
    if not names:
        raise FetchError(f"no package matches {image} in {apt.mirror} {apt.suite}")
    return max(names, key=lambda n: [int(number) for number in re.findall(r"\d+", n)])


def _closure(apt: _Apt, package: str) -> list[str]:
    """*package* and the parts of the same kernel that it depends on, at any distance."""
    found: list[str] = []
    queue = [package]
    while queue:
        name = queue.pop()
        if name in found:
            continue
        found.append(name)
        queue += [n for n in apt.depends(name) if PARTS.match(n) and not FLAVOUR.search(n)]
    return found


def _unify(tree: Path) -> None:
    """Give every kernel the same places, wherever its packages put things.

    Newer packages ship ``usr/lib/modules``, with the image inside; the configuration goes where the guest can
    see it, because only the modules directory is mounted there.
    """
    merged = tree / "usr" / "lib" / "modules"
    if merged.exists() and not (tree / "lib" / "modules").exists():
        (tree / "lib").mkdir(exist_ok=True)
        merged.rename(tree / "lib" / "modules")
    boot = tree / "boot"
    boot.mkdir(exist_ok=True)
    for modules in tree.glob("lib/modules/*"):
        inside, outside = modules / "vmlinuz", boot / f"vmlinuz-{modules.name}"
        if inside.exists() and not outside.exists():
            inside.rename(outside)
        config = boot / f"config-{modules.name}"
        if config.exists() and not (modules / "config").exists():
            shutil.copy(config, modules / "config")


class _Apt:
    """apt with a configuration of its own, below *home*."""

    def __init__(self, home: Path, suite: str) -> None:
        self.mirror = _mirror()
        self.suite = suite
        self.archives = home / "debs"
        for directory in (home / "lists" / "partial", home / "cache" / "archives" / "partial", self.archives):
            directory.mkdir(parents=True)
        if not KEYRING.exists():
            raise FetchError(f"{KEYRING} is missing: cannot verify packages (install debian-archive-keyring)")
        (home / "sources.list").write_text(f"deb [signed-by={KEYRING}] {self.mirror} {suite} main\n")
        (home / "status").touch()
        settings = {
            "Dir::Etc::SourceList": home / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::Etc::Preferences": "/dev/null",
            "Dir::Etc::PreferencesParts": "/dev/null",
            "Dir::State::Lists": home / "lists",
            "Dir::State::Status": home / "status",
            "Dir::Cache": home / "cache",
            "APT::Architecture": "amd64",
            "APT::Architectures": "amd64",
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
            "Acquire::IndexTargets::deb::CNF::DefaultEnabled": "false",
            "Acquire::Check-Valid-Until": "false",
            "Acquire::Retries": "3",
        }
        self._options = [f"-o{key}={value}" for key, value in settings.items()]

    def update(self) -> None:
        _retry(lambda: self._run("apt-get", "-qq", "--error-on=any", "update"))

    def names(self, prefix: str) -> list[str]:
        return self._run("apt-cache", "pkgnames", prefix).split()

    def depends(self, package: str) -> list[str]:
        text = self._run("apt-cache", "--no-all-versions", "show", package)
        line = re.search(r"^Depends: (.*)$", text, re.MULTILINE)
        return [part.split()[0] for part in re.split(r"[,|]", line.group(1)) if part.strip()] if line else []

    def download(self, packages: list[str]) -> Iterator[Path]:
        _retry(lambda: self._run("apt-get", "-qq", "download", *packages))
        yield from sorted(self.archives.glob("*.deb"))

    def _run(self, tool: str, *arguments: str) -> str:
        command = [tool, *self._options, *arguments]
        run = subprocess.run(command, cwd=self.archives, capture_output=True, text=True)
        if run.returncode:
            reason = run.stderr.strip() or f"exit {run.returncode}"
            raise FetchError(f"{tool} {' '.join(arguments)}: {reason}")
        return run.stdout


def _mirror() -> str:
    """The Debian mirror this system is configured for, so that local mirrors and proxies are respected."""
    sources = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    for source in sources:
        if source.suffix not in (".list", ".sources") or not source.exists():
            continue
        for line in source.read_text(errors="replace").splitlines():
            if not line.lstrip().startswith("#"):
                found = re.search(r"\bhttps?://\S+/debian/?(?=\s|$)", line)
                if found:
                    return found.group().rstrip("/")
    return FALLBACK_MIRROR


def _retry(action) -> None:
    """Mirrors hiccup: try a few times, a little later each time."""
    for attempt in range(1, RETRIES + 1):
        try:
            action()
            return
        except FetchError as error:
            if attempt == RETRIES:
                raise
            print(f"lab: {error}; trying again", file=sys.stderr, flush=True)
            time.sleep(5 * attempt)


def main() -> None:
    for name in sys.argv[1:] or KERNELS:
        try:
            kernel = fetch(name)
        except FetchError as error:
            sys.exit(f"lab: {error}")
        print(f"{name}: {kernel.image}")


if __name__ == "__main__":
    main()
