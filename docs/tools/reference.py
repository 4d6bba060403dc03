"""Pages made from the code:  python -m docs.tools.reference"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from msgspec import inspect as types

from retis_py.cli import COMMANDS, cli
from retis_py.collectors import COLLECTORS, Event

__all__ = ["generated", "main"]

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"
_NOTE = "<!-- made by make gen: do not edit -->\n\n"
_KINDS: dict[Any, str] = {
    types.StrType: "text",
    types.BoolType: "true or false",
    types.BytesType: "bytes, base64 in files",
}


def _help(command: click.Command, name: str) -> str:
    os.environ["COLUMNS"] = "80"
    ctx = command.context_class(command, info_name=name)
    return command.get_help(ctx)


def _commands() -> str:
    out = f"# Commands\n\n{_NOTE}What `--help` prints of each; `-h` prints a summary.\n"
    top = click.Context(cli, info_name="retis")
    entries: list[tuple[str, click.Command]] = [("retis", cli)]
    for name in COMMANDS:
        command = cli.get_command(top, name)
        assert command is not None
        entries.append((f"retis {name}", command))
        if isinstance(command, click.Group):
            entries += [(f"retis {name} {child}", found) for child, found in command.commands.items()]
    for name, command in entries:
        out += f"\n## {name}\n\n```text\n{_help(command, name)}\n```\n"
    return out


def _comments(cls: type) -> dict[str, str]:
    """Field -> the ``#:`` comment in front of it in the source, also in that of the classes it comes from."""
    out: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("retis_py."):
            out.update(_own_comments(base))
    return out


def _own_comments(cls: type) -> dict[str, str]:
    out: dict[str, str] = {}
    pending: list[str] = []
    for line in inspect.getsource(cls).splitlines():
        text = line.strip()
        if text.startswith("#:"):
            pending.append(text[2:].strip())
            continue
        field = re.match(r"(\w+): ", text)
        if field and pending:
            out[field[1]] = " ".join(pending)
        pending = []
    return out


def _words(kind: Any) -> str:
    if isinstance(kind, types.UnionType):
        return " or ".join(_words(member) for member in kind.types if not isinstance(member, types.NoneType))
    if isinstance(kind, types.IntType):
        if kind.ge == 0:
            return f"integer, {64 if kind.le is None else kind.le.bit_length()} bits"
        return f"signed integer, {(kind.le or 0).bit_length() + 1} bits"
    if isinstance(kind, types.LiteralType):
        return "one of " + ", ".join(f"`{value}`" for value in kind.values)
    if isinstance(kind, types.VarTupleType):
        return f"list of {_words(kind.item_type)}"
    if isinstance(kind, types.TupleType):
        return f"list of {len(kind.item_types)}: {_words(kind.item_types[0])}"
    if isinstance(kind, types.StructType):
        return f"[{kind.cls.__name__}](#{kind.cls.__name__.lower()})"
    return _KINDS.get(type(kind), "text")


def _structures(kind: Any, seen: dict[type, types.StructType]) -> Iterator[types.StructType]:
    if isinstance(kind, types.UnionType):
        for member in kind.types:
            yield from _structures(member, seen)
    elif isinstance(kind, types.VarTupleType):
        yield from _structures(kind.item_type, seen)
    elif isinstance(kind, types.StructType) and kind.cls not in seen:
        seen[kind.cls] = kind
        yield kind
        for field in kind.fields:
            yield from _structures(field.type, seen)


def _docstring(cls: type) -> str:
    text = inspect.getdoc(cls) or ""
    return re.sub(r"``?(.+?)``?", r"`\1`", text.replace("*", "`"))


def _table(kind: types.StructType) -> str:
    comments = _comments(kind.cls)
    rows = [f"| `{kind.tag_field}` | always `{kind.tag}` | |"] if kind.tag_field else []
    for field in kind.fields:
        need = "" if field.required else " (optional)"
        rows.append(f"| `{field.encode_name}` | {_words(field.type)}{need} | {comments.get(field.name, '')} |")
    return "\n".join(["| field | type | |", "|---|---|---|", *rows]) + "\n" if rows else "No fields.\n"


def _sections() -> str:
    owners = {}
    for collector in COLLECTORS:
        for section in collector.sections:
            for cls in getattr(section, "__args__", (section,)):
                owners[cls] = collector.name
    out = f"# Event sections\n\n{_NOTE}"
    out += (
        "An event is one JSON object per line. Its keys are the sections below, all of them optional, in this order. "
        "`retis schema` prints the same as JSON schema; `str()` of an event, and `retis print`, as text.\n"
    )
    root = types.type_info(Event)
    assert isinstance(root, types.StructType)
    seen: dict[type, types.StructType] = {}
    for field in root.fields:
        out += f"\n## {field.encode_name}\n"
        for structure in _structures(field.type, seen):
            owner = owners.get(structure.cls)
            by = f" Filled by collector [{owner}](../collectors/{owner}.md)." if owner else ""
            out += f"\n### {structure.cls.__name__}\n\n{_docstring(structure.cls)}{by}\n\n{_table(structure)}"
    return out


def generated() -> dict[Path, str]:
    """Every generated page and its text."""
    return {REFERENCE / "commands.md": _commands(), REFERENCE / "sections.md": _sections()}


def main() -> None:
    """Write the pages."""
    for path, text in generated().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
