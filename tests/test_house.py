"""Rules that a reviewer would otherwise repeat."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from retis_py import collectors
from retis_py.cli import COMMANDS, cli
from retis_py.collectors import COLLECTORS
from retis_py.collectors.base import Collector

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "retis_py"
BUDGET = 370  # lines; past 300 a module asks to be split

#: package -> packages of ours it may import
LAYERS = {
    "events": {"events"},
    "collectors": {"collectors", "events"},
    "process": {"process", "collectors", "events"},
    "kernel": {"kernel", "filters", "collectors", "events"},
    "filters": {"filters", "kernel"},
}


def _modules(package: Path = PACKAGE) -> list[Path]:
    return sorted(package.rglob("*.py"))


def _imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Modules a file imports, and whether that happens inside a function."""
    tree = ast.parse(path.read_text())
    inner = {
        child
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node in inner
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node in inner


def test_every_collector_class_is_in_the_list() -> None:
    found = set()
    for path in (PACKAGE / "collectors").glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            bases = (
                {base.id for base in node.bases if isinstance(base, ast.Name)} if isinstance(node, ast.ClassDef) else ()
            )
            if "Collector" in bases:
                found.add(node.name)
    assert found == {kind.__name__ for kind in COLLECTORS}


@pytest.mark.parametrize("kind", COLLECTORS, ids=lambda kind: kind.name)
def test_collector_is_one_name_behind_paired_doors(kind: type[Collector]) -> None:
    stem = kind.name.replace("-", "_")
    assert (PACKAGE / "collectors" / f"{stem}.py").exists()
    assert (ROOT / "tests" / "collectors" / f"test_{stem}.py").exists()
    if kind.layouts:
        assert (ROOT / "bpf" / "collectors" / f"{stem}.bpf.c").exists()


def test_bpf_collectors_have_a_python_side() -> None:
    stems = {path.name.split(".")[0] for path in (ROOT / "bpf" / "collectors").glob("*.bpf.c")}
    assert stems <= {kind.name.replace("-", "_") for kind in COLLECTORS}


def test_only_session_imports_bcc_and_inside_a_function() -> None:
    users = {
        (path.relative_to(PACKAGE).as_posix(), inside)
        for path in _modules()
        for name, inside in _imports(path)
        if name.split(".")[0] == "bcc"
    }
    assert users == {("kernel/session.py", True)}


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_go_one_way(layer: str) -> None:
    foreign = {
        (path.name, name)
        for path in _modules(PACKAGE / layer)
        for name, _ in _imports(path)
        if name.startswith("retis_py.")
        and (PACKAGE / name.split(".")[1]).is_dir()
        and name.split(".")[1] not in LAYERS[layer]
    }
    assert not foreign


def test_event_files_need_neither_bcc_nor_scapy() -> None:
    code = (
        "import sys; sys.modules['bcc'] = None\n"
        "import retis_py, retis_py.cli, retis_py.collectors, retis_py.display, retis_py.events.file\n"
        "assert 'scapy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("command", COMMANDS)
def test_command_has_help_and_is_in_the_readme(command: str) -> None:
    shown = CliRunner().invoke(cli, [command, "--help"])
    assert shown.exit_code == 0
    assert len(shown.output.splitlines()) > 4
    assert f"retis {command}" in (ROOT / "README.md").read_text()


def test_readme_names_the_collectors_that_collect() -> None:
    readme = (ROOT / "README.md").read_text()
    for kind in COLLECTORS:
        assert (f"| `{kind.name}` |" in readme) == bool(kind.layouts), kind.name


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_is_documented_and_of_a_readable_size(path: Path) -> None:
    text = path.read_text()
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), "a module says what it is for"
    assert len(text.splitlines()) <= BUDGET


def test_public_names_are_documented() -> None:
    bare = []
    for path in _modules():
        for node in ast.parse(path.read_text()).body:
            public = isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
            if public and not ast.get_docstring(node):
                bare.append(f"{path.relative_to(PACKAGE)}:{node.lineno} {node.name}")
    assert not bare


def test_collectors_package_exports_what_it_says() -> None:
    assert all(hasattr(collectors, name) for name in collectors.__all__)
