"""retis profile: which profiles there are."""

from __future__ import annotations

import logging

import click

from retis_py.cli.base import Group

log = logging.getLogger(__name__)


@click.group("profile", cls=Group)
def command() -> None:
    """Manage profiles: named sets of arguments, used with "retis -p NAME".

    \b
    Examples:
      retis profile list
      retis -p generic collect
    """


@command.command("list")
@click.pass_context
def list_profiles(ctx: click.Context) -> None:
    """List the profiles found, by the directory and file they are in.

    \b
    Examples:
      retis profile list
      retis -P ./my-profiles profile list
    """
    from retis_py.errors import ProfileError
    from retis_py.events.visible import visible
    from retis_py.profiles import directories, profile_files

    for directory in directories(ctx.find_root().params.get("extra_profiles_dir")):
        for path, content in profile_files(directory):
            if isinstance(content, ProfileError):
                log.warning("Skipping invalid file %s: %s", path, content)
                continue
            click.echo(f"{visible(str(path))}:")
            for profile in content:
                click.echo(f"  {visible(profile.name):<20} {visible(profile.about)}".rstrip())
