"""retis pcap: packets of events as PCAP-NG."""

from __future__ import annotations

import logging
import os
from typing import BinaryIO

import click

from retis_py.cli.base import Command, completer
from retis_py.cli.options import Input, input_file, reading
from retis_py.cli.signals import stop_on_signals
from retis_py.errors import OutputError, ProbeError, RetisError, UsageError
from retis_py.probe_spec import parse

log = logging.getLogger(__name__)

_TRACEPOINT = "__tracepoint_"


def parse_probe(text: str) -> tuple[str, str]:
    """Type and symbol of the probe *text* means; nothing is looked up in the running kernel.

    Raises UsageError.
    """
    try:
        spec = parse(text)
    except ProbeError as error:
        raise UsageError(str(error), hint=error.hint) from None
    if ":" not in text and spec.target.startswith(_TRACEPOINT):
        return spec.type, spec.target[len(_TRACEPOINT) :]
    return spec.type, spec.target


def _parse(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, str] | None:
    return None if value is None else parse_probe(value)


def _opener(path: str | None) -> BinaryIO:
    """The output: *path*, or a copy of stdout."""
    try:
        return os.fdopen(os.dup(1), "wb") if path is None else open(path, "wb")
    except OSError as error:
        what = "Could not open stdout" if path is None else f"Could not create or open '{path}'"
        raise OutputError(what, hint=os.strerror(error.errno or 0)) from None


@click.command("pcap", cls=Command)
@click.option(
    "-p",
    "--probe",
    metavar="[TYPE:]TARGET",
    callback=_parse,
    shell_complete=completer("event_probes"),
    help="Packets seen by this probe only. TYPE is kprobe (k), kretprobe (kr) or raw_tracepoint (tp); "
    "see the probes of a file with retis stats.",
)
@click.option("-o", "--out", metavar="FILE", type=click.Path(), help="Write to FILE, not to stdout.")
@input_file
def command(source: Input, probe: tuple[str, str] | None, out: str | None) -> None:
    """Generate a PCAP-NG file from the packets of stored events.

    Each probe is an interface of its own; the comment of a packet is the text of its event.

    INPUT is an event file that is not sorted (default: retis.data, or retis.data.0 and what follows it).
    With ".." appended, as in "retis.data.0..", the split files that follow it are read too.

    \b
    Examples:
      retis pcap -o retis.pcap
      retis pcap --probe tp:net:netif_receive_skb | tcpdump -nnr -
    """
    from retis_py.events.source import EventSource
    from retis_py.process.output import check_not_input
    from retis_py.process.pcap import export
    from retis_py.process.progress import quiet_stdout

    stopped = stop_on_signals()
    with reading():
        if out is not None:
            check_not_input(out, EventSource(source.path, source.rotate), "convert a file")
        try:
            progress = out is not None or quiet_stdout()
            report = export(
                source.path, lambda: _opener(out), probe, source.rotate, stopped, progress=progress
            )
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"cannot write to {out or 'stdout'}: {os.strerror(error.errno or 0)}") from None
        if report.error is None and not report.matched and not stopped():
            raise RetisError("Probe not found in the events", "list the probes of a file with: retis stats")
        log.info("%d event(s) were processed", report.matched)
        if report.skipped:
            log.warning("%d event(s) were skipped because of missing raw packet", report.skipped)
        if report.error is not None:
            raise report.error
