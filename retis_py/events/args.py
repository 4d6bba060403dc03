"""args: the arguments and the return value of a probed function, for probes with ``/args`` and ``/ret``.

Upstream has no such section; its reader skips it. Annotations are evaluated by msgspec at run time: this module keeps
to what Python 3.9 can evaluate.
"""

from typing import ClassVar, Optional, Tuple  # noqa: UP035

from retis_py.events.section import Section, Style
from retis_py.events.visible import visible

__all__ = ["ArgsSection", "Argument", "Value"]


class Value(Section):
    """A number of the kernel's: an integer, an enum value or an address, by its C type."""

    #: as in C, qualifiers aside: ``struct sk_buff *``, ``unsigned int``
    type: str
    #: negative where the C type is signed
    value: int
    #: name of an enum value, or of the error a returned number stands for
    symbol: Optional[str] = None

    def text(self, style: Style) -> str:
        number = f"{self.value:#x}" if self.type.endswith("*") and self.value >= 0 else str(self.value)
        return number if self.symbol is None else f"{number} ({visible(self.symbol)})"


class Argument(Value):
    """An argument, with the name it has in the function's prototype."""

    #: of the parameter
    name: str = ""


class ArgsSection(Section):
    """Arguments as they were when the function was entered, and what it returned.

    Left out are what is not passed in a register (the seventh argument and later), structures passed by value, and
    what follows such a structure.
    """

    key: ClassVar[str] = "args"
    #: in order
    args: Tuple[Argument, ...] = ()  # noqa: UP006
    #: of a kretprobe with ``/ret``
    ret: Optional[Value] = None

    def text(self, style: Style) -> str:
        words = [f"{visible(argument.name)} {argument.text(style)}" for argument in self.args]
        if words:
            words.insert(0, "args")
        if self.ret is not None:
            words.append(f"ret {self.ret.text(style)}")
        return " ".join(words)
