"""retis inspect: what can be traced here."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import click

from retis_py.cli.base import Command, completer

log = logging.getLogger(__name__)


@click.command("inspect", cls=Command)
@click.option(
    "-p",
    "--probe",
    "pattern",
    is_flag=False,
    flag_value="*",
    metavar="[PATTERN]",
    shell_complete=completer("probes"),
    help="List probes that match, e.g. 'tcp_*', 'tp:skb:*', all of them without PATTERN, each with the arguments that "
    "collectors can use. Without a type it is functions and tracepoints.",
)
@click.option("--names", is_flag=True, help="List the names of probes alone, one per line.")
@click.option("--collectors", is_flag=True, help="List collectors that can run here, and why the others cannot.")
@click.option("--system", is_flag=True, help="Print what collecting needs of this system, and what to do about a no.")
@click.option("--kconf", type=click.Path(path_type=Path), metavar="FILE", help="Kernel configuration to use.")
@click.pass_context
def command(
    ctx: click.Context, pattern: str | None, names: bool, collectors: bool, system: bool, kconf: Path | None
) -> None:
    """Show what can be traced on this system. Works without root, and says what it cannot know then.

    \b
    Examples:
      retis inspect --system
      retis inspect -p 'tcp_v4_*'
      retis inspect -p 'tp:skb:*' --names
    """
    if pattern is None and not collectors and not system:
        raise click.UsageError("nothing to inspect: give --probe, --collectors or --system", ctx)
    from retis_py.inspect import probes, report
    from retis_py.kernel.system import System

    running = System(kconf)
    columns = max(shutil.get_terminal_size((80, 24)).columns, 40)
    if system:
        click.echo("System\n" + report.render(report.system_report(running), columns))
    if collectors or system:
        click.echo("Collectors\n" + report.render(report.collectors(running), columns))
    if pattern is None:
        return
    found = probes.find_probes(pattern, running)
    doubt = probes.why_incomplete(running)
    if doubt is not None:
        log.warning("%s", doubt)
    width = min(max(len(probe.name) for probe in found), 40)
    click.echo("\n".join(probe.name if names else probe.line(width) for probe in found))
