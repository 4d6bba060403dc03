"""What the types of sections cannot say: numbers beyond 64 bits, rules between fields.

msgspec checks ranges while decoding, but its bounds end at the signed 64-bit ones; the upper bound of u64 is
checked here, on decoded events, and sections with a `validate` method are asked.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

from retis_py.events.section import U64

__all__ = ["make_section_validator", "make_validator"]

_MAX = 0xFFFF_FFFF_FFFF_FFFF


def _strip_optional(hint: Any) -> list[Any]:
    """The members of a Union, without None; *hint* alone if it is none."""
    if hint is U64 or get_origin(hint) is tuple:
        return [hint]
    members = [arg for arg in get_args(hint) if arg is not type(None)]
    return members if type(None) in get_args(hint) or (members and _is_struct(members[0])) else [hint]


def _is_struct(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, msgspec.Struct)


def _checks(
    kind: type[msgspec.Struct], value: str, path: str, indent: str, out: list[str], scope: dict[str, Any]
) -> None:
    """Append to *out* the lines that check *value*, a *kind*; *scope* gets the classes they name."""
    for name, key, hint in _fields(kind):
        members = _strip_optional(hint)
        here = f"{path}.{key}"
        optional = members != [hint]
        if members == [U64]:
            guard = f"{value}.{name} is not None and " if optional else ""
            out.append(f"{indent}if {guard}{value}.{name} > {_MAX}: too_large({here!r})")
        structs = [member for member in members if _is_struct(member)]
        for struct in structs:
            nested: list[str] = []
            local = f"{value}_{name}"
            _checks(struct, local, here, indent + "    ", nested, scope)
            if hasattr(struct, "validate"):
                nested.append(f"{indent}    invalid({local}, {here!r})")
            if not nested:
                continue
            out.append(f"{indent}{local} = {value}.{name}")
            if len(structs) > 1:
                scope[struct.__name__] = struct
                out.append(f"{indent}if type({local}) is {struct.__name__}:")
            else:
                out.append(f"{indent}if {local} is not None:")
            out += nested


def _fields(kind: type[msgspec.Struct]) -> list[tuple[str, str, Any]]:
    """Attribute, key and type of each field."""
    hints = get_type_hints(kind, include_extras=True)
    return [
        (name, key, hints[name]) for name, key in zip(kind.__struct_fields__, kind.__struct_encode_fields__)
    ]


def _too_large(path: str) -> None:
    raise ValueError(f"invalid value: integer, expected u64 - at `{path}`")


def _invalid(section: Any, path: str) -> None:
    try:
        section.validate()
    except ValueError as error:
        raise ValueError(f"{error} - at `{path}`") from None


@cache
def make_section_validator(key: str, section_type: Any) -> Callable[[Any], None] | None:
    """As `make_validator` for the section *key* alone, None if its types say everything."""
    kinds = [kind for kind in get_args(section_type) or (section_type,) if _is_struct(kind)]
    scope: dict[str, Any] = {"too_large": _too_large, "invalid": _invalid}
    lines: list[str] = []
    for kind in kinds:
        checks: list[str] = []
        _checks(kind, "section", f"$.{key}", "        ", checks, scope)
        if hasattr(kind, "validate"):
            checks.append(f"        invalid(section, '$.{key}')")
        if checks:
            scope[kind.__name__] = kind
            lines += [f"    if type(section) is {kind.__name__}:", *checks]
    return _compiled("section", lines, scope) if lines else None


def _compiled(argument: str, lines: list[str], scope: dict[str, Any]) -> Callable[[Any], None]:
    exec("\n".join([f"def validate({argument}):", *lines, "    return None"]), scope)
    validator: Callable[[Any], None] = scope["validate"]
    return validator


@cache
def make_validator(event_type: type[msgspec.Struct]) -> Callable[[Any], None]:
    """A function that raises ValueError if its argument, a decoded *event_type*, breaks one of those rules.

    It runs for every event of every file: the checks are written out as one function, as `dataclasses` does,
    which takes 0.2 us where walking the types takes 5. Writing it takes milliseconds, so it is kept.
    """
    lines: list[str] = []
    scope: dict[str, Any] = {"too_large": _too_large, "invalid": _invalid}
    _checks(event_type, "event", "$", "    ", lines, scope)
    return _compiled("event", lines, scope)
