"""The JSON schema of events, from the same types that read and write them.

It keeps to what upstream's Wireshark plugin understands: references to ``#/$defs/NAME`` only, objects with
``properties`` or ``oneOf``, alternatives of an optional section behind ``anyOf``. Names of definitions and
order of keywords are upstream's; where upstream's schema does not fit its own files (packet data,
``op_type``), ours describes the files.
"""

from __future__ import annotations

import inspect
import json
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import inspect as types

from retis_py.collectors import Event
from retis_py.collectors.ct import CtProto
from retis_py.events.section import INTEGER_NAMES

__all__ = ["compact", "make_schema", "pretty"]

#: names upstream gives to definitions, where the rule "DevSection is DevEvent" does not lead to them
_NAMES = {
    "CtConnection": "CtConnEvent",
    "CtLabels": "U128",
    "Machine": "MachineInfo",
    "OvsDetraceSection": "OvsFlowInfoEvent",
    "OvsNat": "OvsActionCtNat",
    "SkbDataRef": "SkbDataRefEvent",
    "SkbGso": "SkbGsoEvent",
    "SkbId": "SkbTrackingEvent",
    "SkbMeta": "SkbMetaEvent",
    "SkbVlanAccel": "SkbVlanAccelEvent",
    "Task": "TaskEvent",
    "TrackingSection": "TrackingInfo",
    "UserspaceSection": "UserEvent",
}
#: keywords that come first, in this order, and last; others are in alphabetical order
_FIRST = ("$id", "$schema", "title", "description", "type", "format", "properties")
_LAST = ("$defs",)
_BASE64 = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
_U64_MAX = 0xFFFF_FFFF_FFFF_FFFF


def _definition_name(cls: type) -> str:
    name = cls.__name__
    return _NAMES.get(name, f"{name[: -len('Section')]}Event" if name.endswith("Section") else name)


def _description(cls: type) -> str:
    """The first paragraph of the docstring, on one line."""
    return " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split())


class _Generator:
    def __init__(self) -> None:
        self.definitions: dict[str, Any] = {}

    def schema(self, kind: Any) -> dict[str, Any]:
        """The schema of a type other than an optional one."""
        if isinstance(kind, types.IntType):
            if kind.ge is None:  # a number as the kernel has it: signed or unsigned, of up to 64 bits
                return {"type": "integer"}
            number = {"type": "integer", "format": INTEGER_NAMES[(kind.ge, kind.le)], "minimum": kind.ge}
            return {**number, "maximum": _U64_MAX if kind.le is None else kind.le}
        if isinstance(kind, types.StrType):
            return {"type": "string"}
        if isinstance(kind, types.BoolType):
            return {"type": "boolean"}
        if isinstance(kind, types.BytesType):
            return {"type": "string", "contentEncoding": "base64", "pattern": _BASE64}
        if isinstance(kind, types.LiteralType):
            return {"type": "string", "enum": list(kind.values)}
        if isinstance(kind, types.VarTupleType):
            return {"type": "array", "items": self.schema(kind.item_type)}
        if isinstance(kind, types.TupleType):
            size = len(kind.item_types)
            return {
                "type": "array",
                "items": self.schema(kind.item_types[0]),
                "minItems": size,
                "maxItems": size,
            }
        if isinstance(kind, types.StructType):
            return self.reference(kind)
        if isinstance(kind, types.UnionType):
            return self.tagged(kind)
        raise TypeError(f"no schema for {kind}")

    def optional(self, kind: Any) -> dict[str, Any]:
        """The schema of a field that may be missing or null, *kind* being its type without None."""
        schema = self.schema(kind)
        if "$ref" in schema:
            return {"anyOf": [schema, {"type": "null"}]}
        if "enum" in schema:
            return {**schema, "type": ["string", "null"], "enum": [*schema["enum"], None]}
        return {**schema, "type": [schema["type"], "null"]}

    def field(self, field: types.Field) -> dict[str, Any]:
        kind = field.type
        if not isinstance(kind, types.UnionType) or not kind.includes_none:
            return self.schema(kind)
        members = tuple(member for member in kind.types if not isinstance(member, types.NoneType))
        return self.optional(members[0] if len(members) == 1 else types.UnionType(members))

    def body(self, kind: types.StructType) -> dict[str, Any]:
        """The object for a structure."""
        properties: dict[str, Any] = {}
        required = []
        if kind.tag_field is not None:
            properties[kind.tag_field] = {"type": "string", "const": kind.tag}
            required.append(kind.tag_field)
        for field in kind.fields:
            properties[field.encode_name] = self.field(field)
            if field.required:
                required.append(field.encode_name)
        schema = {"description": _description(kind.cls), "type": "object", "properties": properties}
        return {**schema, "required": required} if required else schema

    def one_key(self, kind: types.StructType) -> dict[str, Any]:
        """The object for a structure of which exactly one field is there."""
        choices = []
        for field in kind.fields:
            (member,) = (m for m in field.type.types if not isinstance(m, types.NoneType))  # type: ignore[attr-defined]
            # in place, not by reference: upstream's plugin looks for fields of alternatives here
            choice = {"type": "object", "properties": {field.encode_name: self.body(member)}}
            choices.append({**choice, "required": [field.encode_name], "additionalProperties": False})
        return {"description": _description(kind.cls), "oneOf": choices}

    def reference(self, kind: types.StructType) -> dict[str, Any]:
        name = _definition_name(kind.cls)
        if name not in self.definitions:
            self.definitions[name] = {}  # not again
            self.definitions[name] = self.one_key(kind) if kind.cls is CtProto else self.body(kind)
        return {"$ref": f"#/$defs/{name}"}

    def tagged(self, kind: types.UnionType) -> dict[str, Any]:
        """The definition of a section that is one of several structures, told apart by a field."""
        base = kind.types[0].cls.__bases__[0]  # type: ignore[attr-defined]
        name = f"{base.key.capitalize()}Event"
        variants = [self.body(member) for member in kind.types]  # type: ignore[arg-type]
        self.definitions[name] = {"description": _description(base), "oneOf": variants}
        return {"$ref": f"#/$defs/{name}"}


def _ordered(value: Any) -> Any:
    """*value* with the keys of objects in the order of upstream's schema."""
    if isinstance(value, list):
        return [_ordered(item) for item in value]
    if not isinstance(value, dict):
        return value

    def place(key: str) -> tuple[int, int, str]:
        if key in _FIRST:
            return 0, _FIRST.index(key), key
        return (2 if key in _LAST else 1), 0, key

    return {key: _ordered(value[key]) for key in sorted(value, key=place)}


def make_schema(event_type: type[msgspec.Struct] = Event) -> dict[str, Any]:
    """The schema of one event. Sections are all optional, and so are those we do not know."""
    generator = _Generator()
    root = types.type_info(event_type)
    assert isinstance(root, types.StructType)
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Retis Metadata",
        "description": "An event: what one probe reported about a packet, in sections.",
        "type": "object",
        "properties": {field.encode_name: generator.field(field) for field in root.fields},
        "$defs": generator.definitions,
    }
    ordered: dict[str, Any] = _ordered(schema)
    return ordered


def pretty() -> str:
    """The schema as ``retis schema`` prints it."""
    return json.dumps(make_schema(), indent=2, ensure_ascii=False)


@lru_cache(maxsize=1)
def compact() -> bytes:
    """The schema as it is embedded in PCAP-NG files."""
    return json.dumps(make_schema(), separators=(",", ":"), ensure_ascii=False).encode()
