"""Meta filter: conditions on members of struct sk_buff, and on what they lead to, become C.

    sk_buff.dev.name == "eth0" and (sk_buff.mark:0xff > 3 or sk_buff.cloned)

A term walks from ``sk_buff`` through members, each looked up in BTF: structs and unions by value, pointers by
reading them. ``:mask`` clears bits of a pointer (or of a number at the end), ``:mask:type`` also says what it points
to. Without a comparison a term means ``!= 0``. ``and`` and ``or`` bind equally and from left to right, as upstream's
do: ``a or b and c`` is ``(a or b) and c``; parentheses override that. What cannot be read is not matched.
"""

from __future__ import annotations

import re
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
#: characters of an expression that an error shows
_SHOWN = 160
_EXAMPLE = "for instance sk_buff.mark == 1"


@cache
def _parser() -> Any:
    from lark import Lark

    return Lark(_GRAMMAR, parser="lalr", propagate_positions=True)


def meta_filter(expression: str, types: KernelTypes) -> str:
    """C of meta_matches() for *expression* on a kernel with *types*; raises FilterError pointing at the column."""
    from lark.exceptions import UnexpectedInput

    try:
        expression.encode()
    except UnicodeEncodeError as error:  # what the shell handed over was not UTF-8
        raise _located(expression, "not valid UTF-8", error.start, "") from None
    try:
        tree = _parser().parse(expression)
        compiler = Compiler(types)
        compiler.expression(tree.children[0])
    except UnexpectedInput as error:
        raise _located(expression, *_mistake(expression, error)) from None
    except TermError as error:
        raise _located(expression, str(error), error.column, error.hint) from None
    terms = compiler.code.terms
    if terms > _MAX_COMPARISONS:
        raise FilterError(
            f"the meta filter is too complex: {terms} comparisons, at most {_MAX_COMPARISONS}",
            hint="compare with <= and >=, or with a mask",
        )
    return compiler.code.text()


def _mistake(expression: str, error: Any) -> tuple[str, int, str]:
    """What a syntax error is about, at which column, and a hint."""
    at = error.pos_in_stream or 0
    expected = getattr(error, "allowed", None) or getattr(error, "accepts", None) or error.expected
    at_end = getattr(error, "token", None) is not None and error.token.type == "$END"
    if at_end:
        at = len(expression)
    here = expression[at : at + 1]
    word = re.search(r"\w*$", expression[:at])
    begin = word.start() if word else at
    starts = "SK_BUFF" in expected
    if here and here in "'\"" and expression[at : at + 2] == 2 * here:
        return "a string has at least one character", at, ""
    if here and here in "'\"" and expression.count(here, at) == 1:
        return "the string does not end", at, f"a {here} is missing"
    if here == "=" and "OP" in expected:
        return "unexpected character '='", at, "did you mean ==?"
    if starts and here.isalnum():
        return "a term begins with sk_buff", at, _EXAMPLE
    if expression[begin:at] == "sk_buff" and re.match(r"\w", here):
        return "a term begins with sk_buff", begin, _EXAMPLE
    if re.match(r"\d", expression[begin:at]) and re.match(r"\w", here):
        number = re.match(r"\w*", expression[begin:])
        text = number.group() if number else ""
        return f"{text} is not a number", begin, "numbers are decimal, 0x and hexadecimal, or 0b and binary digits"
    if at_end:
        return "unexpected end", at, "a ) is missing" if "RPAR" in expected and "(" in expression else ""
    if "token" not in vars(error):
        return f"unexpected character {here!r}", at, ""
    if "INFIX" in expected and here != ")":
        return "syntax error", at, "terms are joined by and, or"
    return "syntax error", at, _EXAMPLE if starts else ""


def _located(expression: str, message: str, column: int, hint: str) -> FilterError:
    # of a long expression, what is around the mistake
    start = max(0, min(column - _SHOWN // 2, len(expression) - _SHOWN))
    shown = "".join(c if c.isprintable() else "?" for c in expression[start : start + _SHOWN])
    before, after = "..." * (start > 0), "..." * (start + _SHOWN < len(expression))
    caret = " " * (len(before) + column - start)
    return FilterError(
        f"meta filter: {message}\n  {before}{shown}{after}\n  {caret}^ column {column + 1}", hint=hint or None
    )
