"""Profile files: YAML, checked against what a profile may hold; errors name the line.

All values are text, whatever they look like: ``version: 1.10`` is not 1.1, and ``cmd: no`` is not false.
"""

from __future__ import annotations

import difflib
import logging
import operator
import platform
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retis_py.errors import ProfileError

__all__ = ["COMMANDS", "Profile", "Rule", "SymbolTest", "load"]

log = logging.getLogger(__name__)

#: whether the kernel has a symbol; None: cannot be told
SymbolTest = Callable[[str], "bool | None"]

#: commands that profiles are for
COMMANDS = ("collect", "pcap")
#: version of the format this code knows
_MAJOR, _MINOR = 1, 0
_OPERATORS = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_CONDITION = re.compile(r"(>=|<=|!=|=|>|<)\s*(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:-(\d+))?$")
_NULL = ("", "~", "null")
#: bytes of a file, values in it when its aliases are written out, and how deep they may be nested: of some dozen
#: options nobody needs as many, while ten lines of aliases of aliases stand for billions
_LARGEST, _VALUES, _DEPTH = 1 << 20, 1 << 14, 32


class _Text(str):
    """A scalar, and the line it is on; so for the other two."""

    line = 0


class _Map(dict):  # type: ignore[type-arg]
    line = 0


class _List(list):  # type: ignore[type-arg]
    line = 0


@dataclass(frozen=True)
class Rule:
    """One entry for a command: its arguments, and when they apply."""

    name: str
    conditions: tuple[dict[str, str], ...]
    args: dict[str, Any]

    def holds(self, has_symbol: SymbolTest) -> bool:
        """Whether all conditions do."""
        return all(self._check(condition, has_symbol) for condition in self.conditions)

    @staticmethod
    def _check(condition: dict[str, str], has_symbol: SymbolTest) -> bool:
        if condition["type"] == "symbol":
            wanted = condition.get("exists", "true").lower() == "true"
            return bool(has_symbol(condition["name"])) == wanted
        return all(_version_holds(part) for part in condition["version"].split(","))

    def options(self) -> list[tuple[str, str | None, int]]:
        """Option, value (None: a flag) and line in the file of each argument, in alphabetical order."""
        out: list[tuple[str, str | None, int]] = []
        for key, value in sorted(self.args.items()):
            option = "--" + key.replace("_", "-")
            for item in value if isinstance(value, list) else [value]:
                out.append((option, None if item in _NULL else str(item), getattr(key, "line", 0)))
        return out


@dataclass(frozen=True)
class Profile:
    """A profile: for each command it is for, rules of which the first that holds counts."""

    name: str
    about: str
    rules: dict[str, tuple[Rule, ...]]
    path: Path


def kernel_version(release: str) -> tuple[int, ...]:
    """``6.12.0-55.el10`` is (6, 12, 0, 55): the last is the first number after the dash."""
    base, _, build = release.partition("-")
    numbers = [int(part) for part in re.findall(r"\d+", base)[:3]]
    match = re.search(r"(?:^|[.\-_])(\d+)(?=$|[.\-_])", build)
    return (*numbers, *[0] * (3 - len(numbers)), int(match[1]) if match else 0)


def _version_holds(condition: str) -> bool:
    match = _CONDITION.match(condition.strip())
    assert match is not None, "conditions are checked when the file is read"
    wanted = [None if part is None else int(part) for part in match.groups()[1:]]
    pairs = [(ours, part) for ours, part in zip(kernel_version(platform.release()), wanted) if part is not None]
    compare = _OPERATORS[match[1]]
    return bool(compare([ours for ours, _ in pairs], [part for _, part in pairs]))


def _fail(where: Any, message: str) -> None:
    line = getattr(where, "line", 0)
    raise ProfileError(f"line {line}: {message}" if line else message)


def _expect(where: Any, good: bool, message: str) -> None:
    if not good:
        _fail(where, message)


def _fields(where: Any, allowed: Collection[str], what: str) -> None:
    for name in where:
        if name not in allowed:
            close = difflib.get_close_matches(name, allowed, n=1)
            _fail(name, f"unknown field '{name}' of {what}" + (f", did you mean '{close[0]}'?" if close else ""))


def _from_yaml(node: Any, left: Iterator[int], depth: int = 0) -> Any:
    """The value of a YAML node, with lines; *left* counts how many more there may be."""
    import yaml

    line = node.start_mark.line + 1
    out: Any
    if next(left, None) is None:
        raise ProfileError(f"line {line}: more than {_VALUES} values (aliases count as what they stand for)")
    if depth > _DEPTH:
        raise ProfileError(f"line {line}: nested too deeply")
    if isinstance(node, yaml.ScalarNode):
        out = _Text(node.value)
    elif isinstance(node, yaml.SequenceNode):
        out = _List(_from_yaml(item, left, depth + 1) for item in node.value)
    else:
        out = _Map()
        out.line = line
        for name, value in node.value:
            key = _from_yaml(name, left, depth + 1)
            _expect(out, isinstance(key, str), "the name of a field is not text")
            _expect(key, key not in out, f"field '{key}' is there twice")
            out[key] = _from_yaml(value, left, depth + 1)
    out.line = line
    return out


def _condition(condition: Any) -> dict[str, str]:
    _expect(condition, isinstance(condition, dict), "a condition of 'when' is not a map")
    assert isinstance(condition, dict)
    for key, value in condition.items():
        _expect(value, isinstance(value, str), f"'{key}' of a condition is not text")
    kinds = {"symbol": ("type", "name", "exists"), "version": ("type", "version")}
    kind = condition.get("type", "")
    _expect(condition.get("type", condition), kind in kinds, f"unknown condition type '{kind}', not symbol or version")
    _fields(condition, kinds[kind], f"a {kind} condition")
    needed = kinds[kind][1]
    _expect(condition, bool(condition.get(needed)), f"condition without '{needed}'")
    exists = condition.get("exists", "true")
    _expect(exists, exists.lower() in ("true", "false"), f"'exists' is '{exists}', not true or false")
    for part in condition["version"].split(",") if kind == "version" else ():
        _expect(
            condition["version"], bool(_CONDITION.match(part.strip())), f"invalid version condition '{part.strip()}'"
        )
    return condition


def _rule(entry: Any, command: str) -> Rule:
    _expect(entry, isinstance(entry, dict), f"{command} is not a list of maps")
    _fields(entry, ("name", "when", "args"), f"an entry of {command}")
    name = entry.get("name", "")
    _expect(name, isinstance(name, str), "'name' is not text")
    args = entry.get("args") or _Map()
    _expect(args, isinstance(args, dict), "'args' is not a map")
    for key, value in args.items():
        items = value if isinstance(value, list) else [value]
        _expect(key, all(isinstance(item, str) for item in items), f"'{key}' is not text or a list of texts")
    conditions = entry.get("when") or _List()
    _expect(conditions, isinstance(conditions, list), "'when' is not a list")
    return Rule(name or "Default", tuple(_condition(condition) for condition in conditions), args)


def _profile(document: Any, path: Path) -> Profile | None:
    """The profile in a YAML *document*; None for one of another major version."""
    _expect(document, isinstance(document, dict), "a profile is a map")
    for field in ("version", "name"):
        _expect(document, field in document, f"missing field '{field}'")
    name, version = document["name"], document["version"]
    _expect(name, isinstance(name, str) and bool(name), "'name' is not text")
    match = re.fullmatch(r"(\d+)\.(\d+)", version) if isinstance(version, str) else None
    _expect(version, match is not None, f"invalid version '{version}', not X.Y")
    assert match is not None
    if int(match[1]) != _MAJOR:
        log.warning("%s: profile %s has version %s, which is not supported: skipped", path, name, version)
        return None
    if int(match[2]) > _MINOR:
        log.warning("%s: profile %s has version %s, which is partially supported", path, name, version)
    else:
        _fields(document, ("version", "name", "about", *COMMANDS), "a profile")
    about = document.get("about", "")
    _expect(about, isinstance(about, str), "'about' is not text")
    rules = {}
    for command in COMMANDS:
        entries = document.get(command) or _List()
        _expect(entries, isinstance(entries, list), f"{command} is not a list of maps")
        rules[command] = tuple(_rule(entry, command) for entry in entries)
    return Profile(name, about, rules, path)


def _read(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        number = data.count(b"\n", 0, _LARGEST) + 1
        raise ProfileError(f"line {number}: a profile of more than {_LARGEST >> 20} MiB")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise ProfileError(f"line {number}: not UTF-8 (byte 0x{data[error.start]:02x})") from None


def load(path: Path) -> list[Profile]:
    """The profiles in a file. Raises ProfileError, which names the line, if one is not valid, or OSError."""
    import yaml

    text = _read(path)
    left = iter(range(_VALUES))
    loader = None
    try:
        loader = yaml.BaseLoader(text)
        documents = []
        while loader.check_node():
            documents.append(_from_yaml(loader.get_node(), left))
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ProfileError(f"{line}{error.problem or error.context}") from None
    except yaml.reader.ReaderError as error:
        number = text.count("\n", 0, error.position) + 1
        raise ProfileError(f"line {number}: character U+{ord(text[error.position]):04X} is not allowed") from None
    except RecursionError:
        line = f"line {loader.line + 1}: " if loader else ""
        raise ProfileError(f"{line}nested too deeply") from None
    profiles = (_profile(document, path) for document in documents if document not in _NULL)
    return [profile for profile in profiles if profile is not None]
