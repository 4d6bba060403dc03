"""Profiles: named sets of command line arguments in YAML files.

A profile adds arguments to ``collect`` or ``pcap``, before they are parsed. Each of its entries may have
conditions on the kernel; the first whose conditions hold is used.
"""

from __future__ import annotations

import difflib
import logging
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from retis_py.errors import ProfileError, UsageError
from retis_py.paths import profiles_dir
from retis_py.profile_file import COMMANDS, Profile, Rule, SymbolTest, load

__all__ = [
    "ETC",
    "Argument",
    "Profile",
    "Rule",
    "SymbolTest",
    "arguments",
    "directories",
    "expand",
    "load",
    "profile_files",
]

log = logging.getLogger(__name__)

#: the administrator's profiles
ETC = Path("/etc/retis/profiles")
#: where upstream's packages put theirs
_SHARE = Path("/usr/share/retis/profiles")


def directories(extra: str | None = None) -> list[Path]:
    """Where profiles are looked for, in this order: a user's come before the system's, and those before ours."""
    places = []
    if extra is not None:
        if not os.path.isdir(extra):
            log.warning("The extra profiles directory %s is not a directory that can be read", extra)
        places.append(Path(extra))
    home = os.environ.get("HOME")
    if home:
        places.append(Path(home, ".config/retis/profiles"))
    places += [ETC, profiles_dir(), _SHARE]
    # os.path: a home that may not be looked into is none
    return [place for place in places if os.path.isdir(place)]


def profile_files(directory: Path) -> Iterator[tuple[Path, list[Profile] | ProfileError]]:
    """The files of *directory* that may be profiles, and what is in them."""
    try:
        paths = sorted(directory.iterdir())
    except OSError as error:
        log.warning("Skipping directory %s: %s", directory, error.strerror)
        return
    for path in paths:
        if path.suffix in (".yaml", ".yml") and os.path.isfile(path):
            try:
                yield path, load(path)
            except ProfileError as error:
                yield path, error
            except OSError as error:
                yield path, ProfileError(os.strerror(error.errno or 0))


def _from_path(name: str) -> Profile:
    try:
        profiles = load(Path(name))
    except ProfileError as error:
        raise ProfileError(f"Could not import profile: {name}: {error}") from None
    except OSError as error:
        raise ProfileError(f"Could not import profile: {name}: {os.strerror(error.errno or 0)}") from None
    if len(profiles) != 1:
        raise ProfileError(f"Could not import profile: {name} holds {len(profiles)} profiles, need one")
    return profiles[0]


def _is_path(name: str) -> bool:
    """Whether *name* is that of a file; one that cannot be read counts if it is named as only a file would be."""
    try:
        is_file = not os.path.isdir(name) and os.stat(name) is not None
    except (OSError, ValueError) as error:
        return isinstance(error, PermissionError) and "/" in name
    return "/" in name or (is_file and (os.access(name, os.R_OK) or name.endswith((".yaml", ".yml"))))


def _find(name: str, extra: str | None) -> Profile:
    if _is_path(name):
        return _from_path(name)
    by_stem: list[Profile] = []
    names: set[str] = set()
    broken: list[tuple[Path, ProfileError]] = []
    for directory in directories(extra):
        found = []
        for path, content in profile_files(directory):
            if isinstance(content, ProfileError):
                log.debug("Skipping invalid file %s: %s", path, content)
                broken.append((path, content))
                continue
            names |= {profile.name for profile in content}
            found += [profile for profile in content if profile.name == name]
            if path.stem == name:
                # a file's own name means its first profile: `-p drop` is drop.yaml's dropmon
                by_stem += content[:1]
        if len(found) > 1:
            raise ProfileError(f"Found two profiles with name '{name}' in {directory}")
        if found:
            return found[0]
    if by_stem:
        return by_stem[0]
    for path, error in broken:
        if path.stem == name:
            raise ProfileError(f"Could not import profile: {path}: {error}")
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]}?" if close else "list them with: retis profile list"
    if broken:
        hint += f" ({len(broken)} file(s) are not valid: {broken[0][0]}: {broken[0][1]})"
    raise ProfileError(f"Profile with name {name} not found", hint)


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


class Argument(NamedTuple):
    """An option that a profile gives, and *where*: file and line."""

    option: str
    value: str | None
    where: str

    def words(self) -> list[str]:
        """As on a command line."""
        return [self.option] if self.value is None else [self.option, self.value]


def _arguments(
    rule: Rule, command: str, options: Mapping[str, bool | None] | None, path: Path
) -> Iterator[Argument]:
    """The arguments of *rule*, which the command must have: *options* tells of each whether it takes a value."""
    for option, value, line in rule.options():
        where = f"{path}: line {line}"
        if options is not None and option not in options:
            close = difflib.get_close_matches(option, options, n=1)
            raise UsageError(
                f"{where}: retis {command} has no option {option}", hint=f"did you mean {close[0]}?" if close else None
            )
        takes_value = None if options is None else options[option]
        if takes_value is not None and takes_value != (value is not None):
            raise UsageError(f"{where}: {option} {'needs a value' if takes_value else 'takes no value'}")
        yield Argument(option, value, where)


def arguments(
    profiles: Sequence[str],
    command: str,
    extra_dir: str | None = None,
    has_symbol: SymbolTest | None = None,
    options: Mapping[str, bool | None] | None = None,
) -> list[Argument]:
    """The arguments that *profiles* (names or paths, also comma-separated) add to *command*.

    *options* are the command's, with whether each takes a value (None: it may). Raises UsageError for a command
    profiles are not for and for an option it does not have, ProfileError for a profile that cannot be used.
    """
    if command not in COMMANDS:
        raise UsageError(f"Subcommand {command} does not support profile enhancement")
    test = has_symbol or _running_kernel()
    out: list[Argument] = []
    for name in (part.strip() for item in profiles for part in item.split(",")):
        if not name:
            raise UsageError(f"a name in the list of profiles '{','.join(profiles)}' is empty")
        profile = _find(name, extra_dir)
        rule = next((rule for rule in profile.rules[command] if rule.holds(test)), None)
        if rule is None:
            log.warning("None of the %s profiles defined in %s were selected", command, profile.name)
            continue
        added = list(_arguments(rule, command, options, profile.path))
        plain = command == "collect" and rule.name == "Default"
        log.info("Applying profile %s%s", profile.name, "" if plain else f": {rule.name}")
        log.debug("profile %s of %s adds: %s", profile.name, profile.path, shlex.join(_words(added)))
        out += added
    return out


def _words(found: Iterable[Argument]) -> list[str]:
    return [word for argument in found for word in argument.words()]


def expand(
    profiles: Sequence[str],
    command: str,
    extra_dir: str | None = None,
    has_symbol: SymbolTest | None = None,
    options: Mapping[str, bool | None] | None = None,
) -> list[str]:
    """`arguments` as words of a command line."""
    return _words(arguments(profiles, command, extra_dir, has_symbol, options))
