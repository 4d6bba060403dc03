"""What shells offer behind a word: probes, collectors, profiles, found when asked for, within a tenth of a second.

A shell runs ``retis`` with ``_RETIS_COMPLETE`` set; click finds the parameter the cursor is at and calls one of the
functions here with what is there already. Nothing is printed to stderr, and what cannot be read is not offered.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from glob import escape, glob
from pathlib import Path
from typing import Any

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    ShellComplete,
    add_completion_class,
    get_completion_class,
    split_arg_string,
)

__all__ = ["collectors", "event_probes", "files", "places", "probes", "profiles", "register", "skb_sections"]

_TYPES = ("kprobe:", "kretprobe:", "tp:")
#: tracepoints offered where tracefs, which lists them all, cannot be read
_TRACEPOINTS = (
    *("net:net_dev_queue", "net:net_dev_start_xmit", "net:napi_gro_receive_entry", "net:netif_receive_skb"),
    *("net:netif_rx", "skb:consume_skb", "skb:kfree_skb", "tcp:tcp_retransmit_skb"),
)
_TRACEFS = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
#: of an event file, as much as is looked at for its probes
_HEAD = 1 << 20


def _list(names: Iterable[str], incomplete: str) -> list[str]:
    """Choices for the last item of a comma-separated list."""
    before, comma, last = incomplete.rpartition(",")
    given = before.split(",")
    return [before + comma + name for name in names if name.startswith(last) and name not in given]


def collectors(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Collectors that can collect."""
    from retis_py.collectors import COLLECTORS

    return _list(["auto", *(kind.name for kind in COLLECTORS if kind.layouts)], incomplete)


def skb_sections(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Extra sections of collector skb."""
    from retis_py.collectors.skb import SKB_SECTIONS

    return _list(SKB_SECTIONS, incomplete)


def profiles(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
    """Names of profiles; a path is completed by the shell."""
    if "/" in incomplete:
        return files(ctx, param, incomplete)
    from retis_py.errors import ProfileError
    from retis_py.profiles import directories, profile_files

    names: dict[str, None] = {}
    for directory in directories(ctx.params.get("extra_profiles_dir")):
        for _, content in profile_files(directory):
            if not isinstance(content, ProfileError):
                names.update(dict.fromkeys(profile.name for profile in content))
    return _list(names, incomplete)


def files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
    """Files, by the shell's own means."""
    return [CompletionItem(incomplete, type="file")]


def places(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
    """Directories, by the shell's own means."""
    return [CompletionItem(incomplete, type="dir")]


def _read(*names: str) -> bytes:
    for name in names:
        try:
            return Path(name).read_bytes()
        except OSError:
            continue
    return b""


def _functions(start: str) -> list[str]:
    pattern = re.escape(start.encode())
    text = _read(*(f"{place}/available_filter_functions" for place in _TRACEFS))
    if text:
        found = re.findall(rb"^(%s[\w.]*)" % pattern, text, re.M)
    else:
        found = re.findall(rb"^[0-9a-f]+ [tT] (%s\w*)$" % pattern, _read("/proc/kallsyms"), re.M)
    return sorted({name.decode() for name in found})


def _tracepoints(start: str) -> list[str]:
    names = _read(*(f"{place}/available_events" for place in _TRACEFS)).decode().split() or _TRACEPOINTS
    return sorted(name for name in names if name.startswith(start))


def probes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Probes of the running kernel; functions from their first letter on, there are tens of thousands."""
    kind, colon, rest = incomplete.partition(":")
    if colon and kind in ("kprobe", "k", "kretprobe", "kr"):
        return [f"{kind}:{name}" for name in _functions(rest)] if rest else []
    if colon and kind in ("tp", "raw_tracepoint"):
        return [f"{kind}:{name}" for name in _tracepoints(rest)]
    found = [*(word for word in _TYPES if word.startswith(incomplete)), *_tracepoints(incomplete)]
    return found + (_functions(incomplete) if incomplete and not colon else [])


def event_probes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Probes of the event file that would be read, as far as its first events tell."""
    source = ctx.params.get("source")
    try:
        with open(getattr(source, "path", None) or "retis.data", "rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return []
    short = {b"raw_tracepoint": "tp", b"kprobe": "kprobe", b"kretprobe": "kretprobe"}
    pattern = rb'"kernel":\{"symbol":"([^"]+)","probe_type":"([^"]+)"'
    names = {f"{short.get(kind, '')}:{symbol.decode()}" for symbol, kind in re.findall(pattern, head)}
    return sorted(name for name in names if name.startswith(incomplete))


_BASH = """\
%(complete_func)s() {
    local IFS=$'\\n' line type value
    COMPREPLY=()
    for line in $(COMP_LINE="${COMP_LINE:0:COMP_POINT}" COMP_WORDBREAKS="$COMP_WORDBREAKS" \\
            %(complete_var)s=bash_complete "$1" 2>/dev/null); do
        type=${line%%%%,*} value=${line#*,}
        case $type in
        plain) COMPREPLY+=("$value") ;;
        # no spaces and quotes of our own: that is the shell's business
        file) compopt -o default 2>/dev/null ;;
        dir) compopt -o dirnames 2>/dev/null ;;
        esac
    done
    # a type, a group, a list: goes on
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *: ]] && compopt -o nospace 2>/dev/null
    return 0
}
complete -F %(complete_func)s %(prog_name)s
"""
_FISH = """\
function %(complete_func)s
    for line in (COMP_LINE=(commandline -cp) %(complete_var)s=fish_complete %(prog_name)s 2>/dev/null)
        set -l parts (string split -m 1 "," -- $line)
        switch $parts[1]
            case file
                __fish_complete_path $parts[2]
            case dir
                __fish_complete_directories $parts[2]
            case plain
                echo $parts[2]
        end
    end
end
complete --no-files --command %(prog_name)s --arguments "(%(complete_func)s)"
"""


_ELVISH = """\
set edit:completion:arg-completer[%(prog_name)s] = {|@words|
    use str
    (external env) COMP_WORDS=(str:join "\\n" $words) %(complete_var)s=elvish_complete %(prog_name)s 2>/dev/null |
        from-lines | each {|line|
            if (not-eq $line "") {
                put $line
            }
        }
}
"""


class _Line(ShellComplete):
    """A shell that passes the line up to the cursor: split as a shell does, unlike bash's own words at every colon."""

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ.get("COMP_LINE", "")
        words = split_arg_string(line)
        last = "" if not words or line[-1:].isspace() else words.pop()
        return words[1:], last


class _Bash(_Line):
    name = "bash"
    source_template = _BASH

    def complete(self) -> str:
        words, incomplete = self.get_completion_args()
        items = self.get_completions(words, incomplete)
        # readline replaces what is behind the last of these only
        breaks = [sign for sign in ":=" if sign in os.environ.get("COMP_WORDBREAKS", "")]
        keep = max((incomplete.rfind(sign) + 1 for sign in breaks), default=0)
        return "\n".join(f"{item.type},{item.value[keep:]}" for item in items)


class _Fish(_Line):
    name = "fish"
    source_template = _FISH

    def format_completion(self, item: CompletionItem[Any]) -> str:
        return f"{item.type},{item.value}" + (f"\t{item.help}" if item.help else "")


class _Elvish(ShellComplete):
    """Elvish has no way to complete files but its own, for commands without a completer: paths are listed here."""

    name = "elvish"
    source_template = _ELVISH

    def get_completion_args(self) -> tuple[list[str], str]:
        *words, last = os.environ.get("COMP_WORDS", "").split("\n")
        return words[1:], last

    def complete(self) -> str:
        out = []
        for item in self.get_completions(*self.get_completion_args()):
            if item.type == "plain":
                out.append(item.value)
            else:
                found = sorted(glob(f"{escape(item.value)}*"))
                out += [path for path in found if item.type == "file" and not os.path.isdir(path)]
                out += [f"{path}/" for path in found if os.path.isdir(path)]
        return "\n".join(out)


def register() -> None:
    """Have click use these for bash, fish and elvish; its own for zsh works as it is."""
    if get_completion_class("bash") is BashComplete:
        add_completion_class(_Bash)
        add_completion_class(_Fish)
        add_completion_class(_Elvish)
