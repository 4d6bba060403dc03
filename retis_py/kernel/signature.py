"""Signatures: what the registers of a probed function mean, by BTF, for probes with ``/args`` and ``/ret``."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from retis_py.events.args import ArgsSection, Argument, Value
from retis_py.kernel.btf import Btf, Kind, Parameter
from retis_py.kernel.compose import ARGS_MAX
from retis_py.kernel.probes import Probe
from retis_py.kernel.system import System

__all__ = ["Signature", "signature", "values_maker"]

#: include/linux/err.h: pointers from -MAX_ERRNO on are errors
_MAX_ERRNO = 4095


class _Reading(NamedTuple):
    """How a register becomes a value."""

    name: str
    type: str
    #: bytes of the register that count
    size: int
    signed: bool
    symbols: Mapping[int, str]

    def number(self, register: int) -> int:
        bits = self.size * 8
        value = register & (1 << bits) - 1
        return value - (1 << bits) if self.signed and value >> bits - 1 else value

    def argument(self, register: int) -> Argument:
        value = self.number(register)
        return Argument(self.type, value, self.symbols.get(value), self.name)

    def returned(self, register: int) -> Value:
        value = self.number(register)
        symbol = self.symbols.get(value)
        error = value - (1 << 64) if self.type.endswith("*") else value
        if symbol is None and -_MAX_ERRNO <= error < 0:
            symbol = errno.errorcode.get(-error)
        return Value(self.type, value, symbol)


class Signature(NamedTuple):
    """What is reported of a probe's function."""

    #: position of the argument, and how to read it
    args: tuple[tuple[int, _Reading], ...] = ()
    ret: _Reading | None = None


def _reading(types: Btf, parameter: Parameter) -> _Reading | None:
    """None for what is no single number."""
    if parameter.depth:
        return _Reading(parameter.name, parameter.type, 8, False, {})
    type_id = types.strip(parameter.type_id) if parameter.type_id else 0
    kind = types.type(type_id).kind if type_id else 0
    if kind == Kind.INT:
        return _Reading(parameter.name, parameter.type, types.size(type_id), types.is_signed(type_id), {})
    if kind in (Kind.ENUM, Kind.ENUM64):
        names = {value: name for name, value in types.enum_values(type_id).items()}
        return _Reading(parameter.name, parameter.type, types.size(type_id), min(names, default=0) < 0, names)
    return None


def signature(probe: Probe, system: System) -> Signature:
    """What *probe* reports by its options ``args`` and ``ret``."""
    if not probe.options & {"args", "ret"}:
        return Signature()
    parameters = probe.parameters
    if probe.type == "raw_tracepoint":
        types = system.types.tracepoint_types(probe.attach_name)
        # BTF keeps no names with the type of a function pointer; the function that calls a tracepoint's probes has them
        named = types.function(f"__traceiter_{probe.attach_name}") if types else None
        parameters = tuple(named[1:]) if named else parameters
    else:
        types = system.function_types(probe.symbol)
    if types is None:
        return Signature()
    readings = []
    if "args" in probe.options:
        for index, parameter in enumerate(parameters[: min(probe.visible, ARGS_MAX)]):
            if reading := _reading(types, parameter):
                readings.append((index, reading._replace(name=reading.name or f"arg{index}")))
    returned = types.returns(probe.symbol) if "ret" in probe.options else None
    return Signature(tuple(readings), _reading(types, returned) if returned else None)


def values_maker(signatures: Sequence[Signature], parts: tuple[str, ...]) -> Callable[..., Any]:
    """The function that builds the section from a probe's index and the registers of *parts*."""
    has_args, has_ret = "args" in parts, "ret" in parts

    def make(probe: int, *registers: int) -> ArgsSection | None:
        known = signatures[probe]
        args = tuple(reading.argument(registers[index]) for index, reading in known.args) if has_args else ()
        ret = known.ret.returned(registers[-1]) if has_ret and known.ret else None
        return ArgsSection(args, ret) if args or ret is not None else None

    return make
