"""Profiles: named sets of command line arguments in YAML files.

A profile adds arguments to ``collect`` or ``pcap``, before they are parsed. Each of its entries may have
conditions on the kernel; the first whose conditions hold is used.
"""

from __future__ import annotations

import logging
import operator
import os
import platform
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retis_py.errors import ProfileError, UsageError
from retis_py.paths import profiles_dir

__all__ = ["Profile", "Rule", "SymbolTest", "directories", "expand", "load", "profile_files"]

log = logging.getLogger(__name__)

#: whether the kernel has a symbol; None: cannot be told
SymbolTest = Callable[[str], "bool | None"]

#: version of the format this code knows
_MAJOR, _MINOR = 1, 0
_COMMANDS = ("collect", "pcap")
_OPERATORS = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_CONDITION = re.compile(r"(>=|<=|!=|=|>|<)\s*(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:-(\d+))?$")


@dataclass(frozen=True)
class Rule:
    """One entry for a command: its arguments, and when they apply."""

    name: str
    conditions: tuple[dict[str, str], ...]
    args: dict[str, Any]

    def holds(self, has_symbol: SymbolTest) -> bool:
        """Whether all conditions do. Raises ProfileError for one that makes no sense."""
        return all(self._check(condition, has_symbol) for condition in self.conditions)

    @staticmethod
    def _check(condition: dict[str, str], has_symbol: SymbolTest) -> bool:
        kind = condition.get("type")
        if kind == "symbol":
            wanted = condition.get("exists", "true").lower() == "true"
            return bool(has_symbol(condition["name"])) == wanted
        return all(_version_holds(part.strip()) for part in condition["version"].split(","))

    def arguments(self) -> list[str]:
        """As on a command line, options in alphabetical order."""
        out = []
        for key, value in sorted(self.args.items()):
            option = "--" + key.replace("_", "-")
            for item in value if isinstance(value, list) else [value]:
                out += [option] if item in ("", "~", "null") else [option, item]
        return out


@dataclass(frozen=True)
class Profile:
    """A profile: for each command it is for, rules of which the first that holds counts."""

    name: str
    about: str
    rules: dict[str, tuple[Rule, ...]]


def kernel_version(release: str) -> tuple[int, ...]:
    """``6.12.0-55.el10`` is (6, 12, 0, 55): the last is the first number after the dash."""
    base, _, build = release.partition("-")
    numbers = [int(part) for part in re.findall(r"\d+", base)[:3]]
    match = re.search(r"(?:^|[.\-_])(\d+)(?=$|[.\-_])", build)
    return (*numbers, *[0] * (3 - len(numbers)), int(match[1]) if match else 0)


def _version_holds(condition: str) -> bool:
    match = _CONDITION.match(condition)
    if not match:
        raise ProfileError(f"invalid version condition '{condition}'")
    wanted = [None if part is None else int(part) for part in match.groups()[1:]]
    running = kernel_version(platform.release())
    pairs = [(ours, part) for ours, part in zip(running, wanted) if part is not None]
    compare = _OPERATORS[match[1]]
    return bool(compare([ours for ours, _ in pairs], [part for _, part in pairs]))


def _require(good: bool, message: str) -> None:
    if not good:
        raise ProfileError(message)


def _rule(entry: Any, where: str) -> Rule:
    _require(isinstance(entry, dict), f"{where} is not a list of maps")
    unknown = set(entry) - {"name", "when", "args"}
    _require(not unknown, f"{where}: unknown field '{min(unknown, default='')}'")
    _require(isinstance(entry.get("name", ""), str), f"{where}: name is not text")
    args = entry.get("args") or {}
    _require(isinstance(args, dict), f"{where}: args is not a map")
    for key, value in args.items():
        items = value if isinstance(value, list) else [value]
        _require(all(isinstance(item, str) for item in items), f"{where}: args: invalid value of '{key}'")
    conditions = entry.get("when") or []
    _require(isinstance(conditions, list), f"{where}: when is not a list")
    for condition in conditions:
        _require(
            isinstance(condition, dict) and all(isinstance(value, str) for value in condition.values()),
            f"{where}: when is not a list of maps of text",
        )
        needs = {"symbol": "name", "version": "version"}.get(condition.get("type", ""))
        _require(needs is not None, f"{where}: unknown condition type '{condition.get('type')}'")
        value = condition.get(needs)
        _require(isinstance(value, str) and bool(value), f"{where}: condition without {needs}")
        if needs == "version":
            for part in value.split(","):
                _version_holds(part.strip())
    return Rule(entry.get("name") or "Default", tuple(conditions), args)


def _profile(document: Any, path: Path) -> Profile | None:
    """The profile in a YAML *document*; None for one of another major version."""
    _require(isinstance(document, dict), "not a map")
    name, version = document.get("name"), document.get("version")
    _require(isinstance(version, str), "missing field 'version'")
    _require(isinstance(name, str) and bool(name), "missing field 'name'")
    match = re.fullmatch(r"(\d+)\.(\d+)", version)
    _require(match is not None, f"invalid version '{version}'")
    assert match is not None
    if int(match[1]) != _MAJOR:
        log.warning("%s: profile %s has version %s, which is not supported: skipped", path, name, version)
        return None
    if int(match[2]) > _MINOR:
        log.warning("%s: profile %s has version %s, which is partially supported", path, name, version)
    rules = {}
    for command in _COMMANDS:
        entries = document.get(command) or []
        _require(isinstance(entries, list), f"{command} is not a list of maps")
        rules[command] = tuple(_rule(entry, command) for entry in entries)
    return Profile(name, str(document.get("about") or ""), rules)


def load(path: Path) -> list[Profile]:
    """The profiles in a file. Raises ProfileError if one is not valid, or OSError."""
    import yaml

    try:
        with path.open(encoding="utf-8") as file:
            # BaseLoader: everything is text, 1.10 is not 1.1 and "no" is not False
            documents = list(yaml.load_all(file, Loader=yaml.BaseLoader))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ProfileError(" ".join(str(error).split())) from None
    profiles = (_profile(document, path) for document in documents if document not in (None, ""))
    return [profile for profile in profiles if profile is not None]


def directories(extra: str | None = None) -> list[Path]:
    """Where profiles are looked for, in this order: a user's come before the built-in ones."""
    places = [Path(extra)] if extra else []
    home = os.environ.get("HOME")
    if home:
        places.append(Path(home, ".config/retis/profiles"))
    places += [profiles_dir(), Path("/usr/share/retis/profiles"), Path("/etc/retis/profiles")]
    return [place for place in places if place.is_dir()]


def profile_files(directory: Path) -> Iterator[tuple[Path, list[Profile] | ProfileError]]:
    """The files of *directory* that may be profiles, and what is in them."""
    for path in sorted(directory.iterdir()):
        if path.suffix in (".yaml", ".yml") and path.is_file():
            try:
                yield path, load(path)
            except ProfileError as error:
                yield path, error
            except OSError as error:
                yield path, ProfileError(os.strerror(error.errno or 0))


def _find(name: str, extra: str | None) -> Profile:
    if os.path.isfile(name) and os.access(name, os.R_OK):
        try:
            profiles = load(Path(name))
        except (ProfileError, OSError) as error:
            raise ProfileError(f"Could not import profile: {error}") from None
        if len(profiles) != 1:
            raise ProfileError(f"Could not import profile: {name} holds {len(profiles)} profiles, need one")
        return profiles[0]
    for directory in directories(extra):
        found = []
        for path, content in profile_files(directory):
            if isinstance(content, ProfileError):
                log.debug("Skipping invalid file %s: %s", path, content)
            else:
                found += [profile for profile in content if profile.name == name]
        if len(found) > 1:
            raise ProfileError(f"Found two profiles with name '{name}' in {directory}")
        if found:
            return found[0]
    for directory in directories(extra):
        # a file's own name means its first profile: `-p drop` is drop.yaml's dropmon
        for path, content in profile_files(directory):
            if path.stem == name and not isinstance(content, ProfileError) and content:
                return content[0]
    raise ProfileError(f"Profile with name {name} not found", "list them with: retis profile list")


def _running_kernel() -> SymbolTest:
    """Asks the running kernel, which is looked at when there is something to ask."""
    kernel: Any = None

    def has_symbol(name: str) -> bool | None:
        nonlocal kernel
        if kernel is None:
            from retis_py.kernel.system import System

            kernel = System()
        known: bool | None = kernel.has_symbol(name.rpartition(":")[2])
        return known

    return has_symbol


def expand(
    profiles: Iterable[str],
    command: str,
    extra_dir: str | None = None,
    has_symbol: SymbolTest | None = None,
) -> list[str]:
    """The arguments that *profiles* (names or paths, also comma-separated) add to *command*.

    Raises UsageError for a command profiles are not for, ProfileError for a profile that cannot be used.
    """
    if command not in _COMMANDS:
        raise UsageError(f"Subcommand {command} does not support profile enhancement")
    test = has_symbol or _running_kernel()
    out: list[str] = []
    for name in (part.strip() for item in profiles for part in item.split(",")):
        profile = _find(name, extra_dir)
        rule = next((rule for rule in profile.rules[command] if rule.holds(test)), None)
        if rule is None:
            log.warning("None of the %s profiles defined in %s were selected", command, profile.name)
            continue
        plain = command == "collect" and rule.name == "Default"
        log.info("Applying profile %s%s", profile.name, "" if plain else f": {rule.name}")
        out += rule.arguments()
    return out
