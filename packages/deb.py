"""The Debian package:  python -m packages.deb [DIRECTORY]

bcc, YAML and scapy are the distribution's. What else pyproject.toml asks for is embedded, in the versions this
environment was tested with: Debian 12 has no msgspec, lark or python-pcapng of the kind needed. Embedded extension
modules are of one version of Python, so the package depends on that version. Needs dpkg-deb, no network.
"""

from __future__ import annotations

import compileall
import gzip
import importlib.metadata
import py_compile
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from packages import man
from retis_py.version import __version__

__all__ = ["build"]

ROOT = Path(__file__).resolve().parent.parent
#: in place of embedding: distribution -> Debian package; the second group is for what a few commands want
DEPENDS = {"PyYAML": "python3-yaml"}
RECOMMENDS = {"scapy": "python3-scapy"}
HOME = Path("usr/lib/retis")
COMMAND = f"""#!/usr/bin/python3 -I
import sys

sys.path.insert(0, "/{HOME}")
from retis_py.cli import main

main()
"""
#: shell -> where its completions are looked for
COMPLETIONS = {
    "bash": "usr/share/bash-completion/completions/retis",
    "zsh": "usr/share/zsh/vendor-completions/_retis",
    "fish": "usr/share/fish/vendor_completions.d/retis.fish",
}


def _requirements(name: str, found: set[str]) -> set[str]:
    try:
        requires = importlib.metadata.distribution(name).requires or ()
    except importlib.metadata.PackageNotFoundError:
        # for another version of Python, or another system
        found.discard(name)
        return found
    for text in requires:
        match = re.match(r"[\w.-]+", text)
        if match and "extra ==" not in text and match[0] not in found | {*DEPENDS, *RECOMMENDS}:
            found.add(match[0])
            _requirements(match[0], found)
    return found


def _embed(name: str, target: Path) -> None:
    """Copy the installed files of a distribution, but for its scripts and compiled modules."""
    for file in importlib.metadata.distribution(name).files or ():
        if file.parts[0] != ".." and "__pycache__" not in file.parts:
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file.locate(), target / file)


def _package(target: Path) -> None:
    for path in (ROOT / "retis_py").rglob("*.py"):
        (target / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / path.relative_to(ROOT))
    for name in ("bpf", "profiles"):
        shutil.copytree(ROOT / name, target / "retis_py" / "_data" / name)


def _place(text: str, path: Path, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _control(architecture: str, size: int) -> str:
    major, minor = sys.version_info[:2]
    depends = [
        f"python3 (>= {major}.{minor})",
        f"python3 (<< {major}.{minor + 1})",
        "python3-bpfcc",
        "libbpf1",
        "libpcap0.8 | libpcap0.8t64",
        *DEPENDS.values(),
    ]
    return f"""Package: retis-py
Version: {__version__}
Architecture: {architecture}
Maintainer: The retis_py developers <retis-py@localhost>
Installed-Size: {size // 1024}
Depends: {", ".join(depends)}
Recommends: {", ".join(RECOMMENDS.values())}, less, nftables
Conflicts: retis
Section: net
Priority: optional
Description: trace packets through the Linux network stack
 retis reports each packet that passes kernel functions and tracepoints, with its
 drop reason, device, namespace and identity, so that it can be followed through
 the stack of a live host. Events are stored as JSON lines, to print, sort by
 packet, or turn into PCAP-NG.
"""


#: bytecode that Python added in use is no file of the package's: dpkg leaves it, and the directories it is in
POSTRM = """\
#!/bin/sh
set -e
if [ "$1" = remove ] || [ "$1" = purge ]; then
	rm -rf /usr/lib/retis
fi
"""


def stage(root: Path) -> None:
    """Put everything the package installs under *root*."""
    home = root / HOME
    for name in sorted(_requirements("retis_py", set())):
        _embed(name, home)
    _package(home)
    # no script of the package runs at installation: bytecode is part of it, valid whatever the files' times are
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compileall.compile_dir(home, quiet=1, stripdir=str(root), prependdir="/", invalidation_mode=mode)
    _place(COMMAND, root / "usr/bin/retis", 0o755)
    _place((ROOT / "packages/retis-record").read_text(), root / "usr/lib/retis/retis-record", 0o755)
    _place((ROOT / "packages/retis.service").read_text(), root / "usr/lib/systemd/system/retis.service")
    _place((ROOT / "packages/retis.default").read_text(), root / "etc/default/retis")
    (root / "etc/retis/profiles").mkdir(parents=True)
    for path in man.write(root / "usr/share/man/man1"):
        path.with_suffix(".1.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
        path.unlink()
    from retis_py.cli.sh_complete import script

    for shell, place in COMPLETIONS.items():
        _place(script(shell) + "\n", root / place)
    documents = root / "usr/share/doc/retis-py"
    for name, source in {"copyright": "LICENSE", "README.md": "README.md", "changelog": "CHANGELOG.md"}.items():
        _place((ROOT / source).read_text(), documents / name)


def build(directory: Path) -> Path:
    """Build the package into *directory* and return its path."""
    architecture = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True).stdout
    directory.mkdir(parents=True, exist_ok=True)
    target = directory / f"retis-py_{__version__}_{architecture.strip()}.deb"
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary, "root")
        root.mkdir(mode=0o755)
        stage(root)
        size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
        _place(_control(architecture.strip(), size), root / "DEBIAN/control")
        _place("/etc/default/retis\n", root / "DEBIAN/conffiles")
        _place(POSTRM, root / "DEBIAN/postrm", 0o755)
        subprocess.run(["chmod", "-R", "u+rwX,go+rX,go-w", root], check=True)
        command = ["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", str(root), str(target)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return target


if __name__ == "__main__":
    print(build(Path(sys.argv[1] if len(sys.argv) > 1 else "dist")))
