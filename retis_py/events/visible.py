"""Strings from outside, made safe to print.

A task name, a device name or a flow may hold anything; in text output a control character must never reach
the terminal. Printable text is left exactly as upstream prints it.
"""

from __future__ import annotations

import re

__all__ = ["visible", "visible_lines"]

# C0 and C1 controls and DEL (terminal escapes start with one of them), line separators, and the marks that
# reorder the characters around them
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_SHORT = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def _escape(match: re.Match[str]) -> str:
    char = match.group()
    return _SHORT.get(char) or (f"\\x{ord(char):02x}" if char < "\x80" else f"\\u{ord(char):04x}")


def visible(text: str) -> str:
    r"""*text* with every control character written out, as in ``\x1b``."""
    if text.isprintable():
        return text
    return _CONTROL.sub(_escape, text)


def visible_lines(text: str) -> str:
    """As `visible`, but for newlines, which are meant: for messages, which quote what others wrote."""
    return "\n".join(map(visible, text.split("\n")))
