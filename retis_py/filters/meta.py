"""Meta filter: conditions on members of struct sk_buff, and on what they lead to, become C.

    sk_buff.dev.name == "eth0" and (sk_buff.mark:0xff > 3 or sk_buff.cloned)

A term walks from ``sk_buff`` through members, each looked up in BTF: structs and unions by value, pointers by
reading them. ``:mask`` clears bits of a pointer (or of a number at the end), ``:mask:type`` also says what it points
to. Without a comparison a term means ``!= 0``. ``and`` and ``or`` bind equally and from left to right, as upstream's
do: ``a or b and c`` is ``(a or b) and c``; parentheses override that. What cannot be read is not matched.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from retis_py.errors import FilterError
from retis_py.filters.meta_terms import Compiler, TermError
from retis_py.kernel.types import KernelTypes

__all__ = ["meta_filter"]

_GRAMMAR = r"""
start: expr
expr: _primary (INFIX _primary)*
_primary: term | "(" expr ")"
term: lhs [OP rhs]
lhs: "sk_buff" ("." field)+
field: NAME [":" mask [":" cast]]
mask: NOT? (HEX | BIN | DEC)
cast: NAME
rhs: HEX | BIN | SIGNED | DEC | STRING | NAME
INFIX: "and" | "&&" | "or" | "||"
OP: "==" | "!=" | ">=" | "<=" | ">" | "<"
NOT: "~"
HEX.3: /0x[0-9a-fA-F]+/
BIN.3: /0b[01]+/
SIGNED.2: /-[0-9]+/
DEC.2: /[0-9]+/
NAME: /[A-Za-z_][A-Za-z0-9_]*/
STRING: /"[^"]+"/ | /'[^']+'/
%ignore /[ \t]+/
"""

#: comparisons of a filter
_MAX_COMPARISONS = 512


@cache
def _parser() -> Any:
    from lark import Lark

    return Lark(_GRAMMAR, parser="lalr", propagate_positions=True)


def meta_filter(expression: str, types: KernelTypes) -> str:
    """C of meta_matches() for *expression* on a kernel with *types*; raises FilterError pointing at the column."""
    from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

    try:
        tree = _parser().parse(expression)
        compiler = Compiler(types)
        compiler.expression(tree.children[0])
    except UnexpectedInput as error:
        column = max(getattr(error, "column", 0) - 1, 0)
        at_end = isinstance(error, UnexpectedToken) and error.token.type == "$END"
        if at_end:
            column = len(expression)
        what = "unexpected end" if at_end else "syntax error"
        if isinstance(error, UnexpectedCharacters):
            what = f"unexpected character {expression[column : column + 1]!r}"
        raise _located(expression, what, column, "") from None
    except TermError as error:
        raise _located(expression, str(error), error.column, error.hint) from None
    terms = compiler.code.terms
    if terms > _MAX_COMPARISONS:
        raise FilterError(
            f"the meta filter is too complex: {terms} comparisons, at most {_MAX_COMPARISONS}",
            hint="compare with <= and >=, or with a mask",
        )
    return compiler.code.text()


def _located(expression: str, message: str, column: int, hint: str) -> FilterError:
    return FilterError(
        f"meta filter: {message}\n  {expression}\n  {' ' * column}^ column {column + 1}", hint=hint or None
    )
