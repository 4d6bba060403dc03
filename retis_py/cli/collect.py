"""``retis collect``"""

from __future__ import annotations

import errno
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from retis_py.cli.base import Command, completer, silence_stdout
from retis_py.cli.options import text_style
from retis_py.cli.signals import stop_on_signals
from retis_py.errors import OutputError, UsageError
from retis_py.events.section import Style

__all__ = ["command"]

_log = logging.getLogger(__name__)

#: seconds after which events are in the file, at the latest: what a SIGKILL can cost
_FLUSH = 0.5

#: options of single collectors
_EXTRA = ("ovs_track", "ovs_enrich_flows", "ovs_enrich_rate", "nft_verdicts", "allow_system_changes")


class _Collectors(click.Option):
    """Its help names the collectors there are, which are looked up when it is shown."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        from retis_py.collectors import COLLECTORS

        record = super().get_help_record(ctx)
        names = ", ".join(kind.name for kind in COLLECTORS if kind.layouts)
        return None if record is None else (record[0], record[1].format(names=names))


def _comma_list(_ctx: click.Context, _param: click.Parameter, values: Iterable[str]) -> tuple[str, ...]:
    return tuple(item for value in values for item in value.split(","))


def _skb_sections(ctx: click.Context, param: click.Parameter, values: Iterable[str]) -> tuple[str, ...]:
    from retis_py.collectors.skb import DEPRECATED_SECTIONS, SKB_SECTIONS

    names = _comma_list(ctx, param, values)
    for name in names:
        if name not in SKB_SECTIONS + DEPRECATED_SECTIONS:
            raise click.BadParameter(f"'{name}' is not one of {', '.join(SKB_SECTIONS)}")
    return names


def _nft_verdicts(ctx: click.Context, param: click.Parameter, values: Iterable[str]) -> tuple[str, ...]:
    from retis_py.collectors.nft import VERDICTS

    names = _comma_list(ctx, param, values)
    for name in names:
        if name not in ("all", *VERDICTS):
            raise click.BadParameter(f"'{name}' is not one of all, {', '.join(VERDICTS)}")
    return names


def _pages(_ctx: click.Context, _param: click.Parameter, value: int | None) -> int | None:
    if value is not None and value & (value - 1):
        raise click.BadParameter(f"{value} is not a power of two")
    return value


class _Output:
    """The file events go to, if any."""

    def __init__(self, path: str | None, rotate: str | None, keep: int | None) -> None:
        from retis_py.events.rotate import parse_limit

        self.path, self.keep = path, keep
        self.limit = None if rotate is None else parse_limit(rotate)

    def check(self) -> None:
        """Raises OutputError for a file that can't be written: opening it, which empties it, has to wait."""
        if self.path is None:
            return
        path = Path(self.path)
        place = path if path.exists() else path.parent
        number = errno.EISDIR if path.is_dir() else 0 if place.exists() else errno.ENOENT
        if number or not os.access(place, os.W_OK):
            raise OutputError(f"Could not create or open '{path}'", hint=os.strerror(number or errno.EACCES))

    def open(self, startup: Callable[[Any], Any]) -> Any:
        """The writer, its startup event written; *startup* makes that event, of a split file if one is given."""
        from retis_py.events.rotate import RotatingWriter
        from retis_py.events.writer import EventWriter

        if self.path is None:
            return None
        if self.limit is not None:
            return RotatingWriter(self.path, self.limit, startup, self.keep)
        writer = EventWriter(self.path)
        writer.write(startup(None))
        return writer


@click.command("collect", cls=Command)
@click.option(
    "-c",
    "--collectors",
    multiple=True,
    default=("auto",),
    callback=_comma_list,
    metavar="LIST",
    shell_complete=completer("collectors"),
    cls=_Collectors,
    help="Comma-separated collectors to enable: auto (all that can run here), {names}. [default: auto]",
)
@click.option(
    "-p",
    "--probe",
    "probes",
    multiple=True,
    shell_complete=completer("probes"),
    metavar="PROBE",
    help="Probe to attach: [TYPE:]TARGET[/OPTION], TYPE one of kprobe (k), kretprobe (kr), raw_tracepoint (tp). "
    "TARGET may hold '*'. OPTION: stack (report the stack trace), args (the function's arguments), ret (what a "
    "kretprobe's function returned). Repeatable.",
)
@click.option(
    "-f",
    "--filter-packet",
    metavar="EXPR",
    help="Only packets that match, in the syntax of pcap-filter(7).",
)
@click.option(
    "-m",
    "--filter-meta",
    metavar="EXPR",
    help="Only packets whose metadata match, e.g. 'sk_buff.dev.name == \"eth0\"': members of struct sk_buff and of "
    "what they point to, compared with ==, !=, <, <=, >, >=, combined with and, or, ().",
)
@click.option(
    "-o",
    "--out",
    is_flag=False,
    flag_value="retis.data",
    metavar="[FILE]",
    help="Write events to FILE (retis.data if not named).",
)
@click.option(
    "-r",
    "--out-rotate",
    metavar="LIMIT",
    help="Begin a new file when LIMIT is reached, e.g. 10MB or 1GB: FILE.0, FILE.1, ...; needs --out.",
)
@click.option(
    "-R",
    "--out-rotate-count",
    type=click.IntRange(min=1),
    metavar="COUNT",
    help="Keep only the last COUNT files; needs --out-rotate.",
)
@click.option("--print", "print_", is_flag=True, help="Print events to stdout also with --out.")
@click.option("--stack", is_flag=True, help="Report the stack trace of all events.")
@click.option("--probe-stack", is_flag=True, help="Probe the functions found in stack traces, too.")
@click.option("--cmd", metavar="CMD", help="Run CMD in a shell, collect until it ends.")
@click.option("--stop-after", type=click.IntRange(min=0), metavar="COUNT", help="Stop after COUNT events.")
@click.option(
    "--skb-sections",
    multiple=True,
    callback=_skb_sections,
    metavar="LIST",
    shell_complete=completer("skb_sections"),
    help="Comma-separated extra sections of collector skb: all, meta, dataref, gso.",
)
@click.option(
    "--ovs-track",
    is_flag=True,
    help="Follow upcalls through ovs-vswitchd, if that has USDT probes (--enable-usdt-probes).",
)
@click.option(
    "--ovs-enrich-flows",
    is_flag=True,
    help="Ask ovs-vswitchd for the datapath flow and the OpenFlow rules behind flows that are hit.",
)
@click.option(
    "--ovs-enrich-rate",
    type=click.IntRange(1, 1_000_000),
    default=20,
    show_default=True,
    metavar="N",
    help="Requests a second for --ovs-enrich-flows, at most.",
)
@click.option(
    "--nft-verdicts",
    multiple=True,
    default=("drop", "accept"),
    callback=_nft_verdicts,
    metavar="LIST",
    help="Comma-separated verdicts that collector nft reports: all, continue, break, jump, goto, return, drop, "
    "accept, stolen, queue, repeat. [default: drop,accept]",
)
@click.option(
    "--allow-system-changes",
    is_flag=True,
    help="Make the changes that collectors need, and undo them at the end: collector nft adds a table with a rule that "
    "turns on tracing, and marks no packet.",
)
@click.option("--kconf", type=click.Path(path_type=Path), metavar="FILE", help="Kernel configuration to use.")
@click.option(
    "--buffer-pages",
    type=click.IntRange(1, 1 << 18),
    callback=_pages,
    metavar="N",
    help="Pages of perf buffer per CPU, a power of two. [default: 16 MiB in all]",
)
@click.option("--show-bpf", is_flag=True, help="Print the BPF program of this run, in C, and exit.")
@click.option("--ready-file", type=click.Path(path_type=Path), hidden=True)
@text_style
@click.pass_context
def command(ctx: click.Context, /, style: Style, out: str | None, print_: bool, **options: Any) -> None:
    """Collect network events from the running kernel, until interrupted.

    \b
    Examples:
      retis collect -c skb,skb-drop -f 'tcp port 443'
      retis collect -p tp:skb:kfree_skb/stack --stop-after 10
      retis collect -o -f 'host 10.0.0.1' --cmd 'ping -c 3 10.0.0.1' && retis sort
    """
    from retis_py.kernel.collection import Collection, Options

    run = ctx.obj or {}
    collection = Collection(
        Options(
            collectors=options["collectors"],
            probes=options["probes"],
            packet_filter=options["filter_packet"],
            meta_filter=options["filter_meta"],
            stack=options["stack"],
            probe_stack=options["probe_stack"],
            skb_sections=options["skb_sections"],
            extra={name: options[name] for name in _EXTRA},
            cmd=options["cmd"],
            stop_after=options["stop_after"] or 0,
            kconf=options["kconf"],
            buffer_pages=options["buffer_pages"],
            profile=bool(ctx.parent and ctx.parent.params.get("profile")),
            cmdline=" ".join(run.get("argv", sys.argv)),
        )
    )
    needs = (
        ("--out-rotate", options["out_rotate"], "--out", out),
        ("--out-rotate-count", options["out_rotate_count"], "--out-rotate", options["out_rotate"]),
    )
    for option, given, needed, there in needs:
        if given and there is None:
            raise UsageError(f"the argument '{option}' needs '{needed}'")
    output = _Output(out, options["out_rotate"], options["out_rotate_count"])
    collection.prepare()
    if options["show_bpf"]:
        click.echo(collection.text())
        return
    _collect(collection, style, output, print_ or out is None, options["ready_file"])


def _collect(collection: Any, style: Style, output: _Output, to_stdout: bool, ready: Path | None) -> None:
    """Open outputs, attach, and carry events to them until the run ends."""
    from retis_py.display import TextRenderer
    from retis_py.events.clock import Clock
    from retis_py.kernel.startup import next_part, startup_event

    with ExitStack() as stack:
        startup = startup_event(collection.options.cmdline)
        output.check()
        collection.stopped = stop_on_signals()
        stack.callback(collection.close)
        collection.attach()
        # what is in the file already is not given up before it is known that there will be events
        writer = output.open(lambda split: startup if split is None else next_part(startup, split))
        if writer is not None:
            stack.callback(_close, writer)
        renderer = TextRenderer(style, Clock(startup.startup.clock_monotonic_offset.nanoseconds()))
        end = "\n\n" if style.multi_line else "\n"
        collection.begin()
        if ready is not None:
            ready.touch()
        flushed = time.monotonic()
        try:
            for batch in collection.events():
                if writer is not None:
                    for event in batch:
                        writer.write(event)
                    if not batch or time.monotonic() > flushed + _FLUSH:
                        writer.flush()
                        flushed = time.monotonic()
                if to_stdout and batch:
                    sys.stdout.write("".join([renderer.event(event) + end for event in batch]))
                    sys.stdout.flush()
        except BrokenPipeError:
            silence_stdout()


def _close(writer: Any) -> None:
    try:
        writer.close()
    except OutputError:
        # told already if it was the reason to stop; what was complete has been kept
        if sys.exc_info()[0] is None:
            raise
