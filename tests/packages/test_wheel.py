"""The wheel: complete, and running without the checkout it was built from."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.support.tracing import why_no_tracepoints

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the sources: setuptools leaves traces where it works."""
    work = tmp_path_factory.mktemp("wheel")
    for name in ("retis_py", "bpf", "profiles"):
        shutil.copytree(ROOT / name, work / "src" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md"):
        shutil.copy(ROOT / name, work / "src")
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(work))
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", *options, str(work / "src")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(work.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel in it; its dependencies are those of this environment."""
    place = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--system-site-packages", str(place)], check=True)
    paths = {"base": str(place), "platbase": str(place)}
    scheme = "venv" if "venv" in sysconfig.get_scheme_names() else "posix_prefix"
    site = Path(sysconfig.get_path("purelib", scheme, paths))
    options = ("--quiet", "--no-deps", "--no-index", "--no-compile", "--target", str(site))
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", *options, str(wheel)]
    subprocess.run(command, check=True, capture_output=True)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return place


def python(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(installed / "bin/python"), *arguments]
    environment = {**os.environ, "HOME": str(installed)}
    environment.pop("PYTHONPATH", None)
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=installed, env=environment)


def retis(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return python(installed, "-m", "retis_py", *arguments)


def test_wheel_holds_every_module_bpf_source_and_profile(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "retis_py").rglob("*.py")}
    assert modules <= names
    for kind in ("bpf", "profiles"):
        files = {path.relative_to(ROOT).as_posix() for path in (ROOT / kind).rglob("*") if path.is_file()}
        assert {f"retis_py/_data/{name}" for name in files} == {
            name for name in names if name.startswith(f"retis_py/_data/{kind}/")
        }
    assert not [name for name in names if name.startswith(("tests/", "packages/"))]


def test_installed_package_finds_its_own_data(installed: Path) -> None:
    code = "from retis_py import paths; print(paths.bpf_dir()); print(paths.profiles_dir())"
    for line in python(installed, "-c", code).stdout.splitlines():
        assert line.startswith(str(installed)) and "/retis_py/_data/" in line


def test_installed_package_runs(installed: Path) -> None:
    (installed / "retis.data").write_text(
        '{"common":{"timestamp":1},"startup":{"retis_version":"1.7.0","cmdline":"retis collect",'
        '"clock_monotonic_offset":{"sec":0,"nsec":0},'
        '"machine":{"kernel_release":"6","kernel_version":"1","hardware_name":"x"}}}\n'
        '{"common":{"timestamp":5},"dev":{"name":"eth0","ifindex":3}}\n'
    )
    assert retis(installed, "print").stdout.endswith("5\n  if 3 (eth0)\n\n")
    listed = retis(installed, "profile", "list")
    assert f"{installed}/" in listed.stdout and "  dropmon " in listed.stdout


def test_installed_package_composes_its_programs(installed: Path) -> None:
    reason = why_no_tracepoints()
    if reason:
        pytest.skip(reason)
    done = retis(installed, "collect", "-c", "skb,skb-drop", "-f", "tcp", "--show-bpf")
    assert done.returncode == 0, done.stderr
    assert "hook_skb_drop" in done.stdout and "_data/bpf" not in done.stderr
