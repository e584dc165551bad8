"""`mimic tables remove`: take a table that was imported by mistake out again."""

import sys

import click


@click.command()
@click.argument("name", metavar="DATABASE.TABLE")
@click.option("--yes", is_flag=True, help="Do not ask first.")
def remove(name: str, yes: bool) -> None:
    """Remove an imported table, or forget a registered one.

    Asks first. A table that a registered contrast set, dataset or inference reads is refused. `mimic tables maintain`
    removes the files of an imported table later; those of a registered one stay where they are.

    \b
    Example:
      mimic tables remove haven.example_log_odds_features
    """
    from mimic_assets.cli.environment import local_resources, open_instance, require_home
    from mimic_assets.removal import remove_table, require_removable

    require_home()
    inventory = local_resources()["inventory"]
    require_removable(inventory, name)
    location = inventory.tables.registered_at(name)
    if not yes and not _agreed(f"forget {name}, whose files stay at {location}" if location else f"remove {name}"):
        click.echo(f"{name} was not removed", err=True)
        raise click.exceptions.Exit(1)
    with open_instance() as instance:
        remove_table(instance, inventory, name)
    if location:
        click.echo(f"forgotten: {name}; its files at {location} are as they were")
    else:
        click.echo(f"removed: {name}")
        click.echo("its files stay until `mimic tables maintain` is run, a day from now or later", err=True)


def _agreed(what: str) -> bool:
    """Ask a person.

    Raises:
        SpecError: there is none.
    """
    from mimic_core.errors import SpecError

    if not sys.stdin.isatty():
        raise SpecError(f"there is no terminal to ask on whether to {what}; nothing was removed: give --yes")
    return click.confirm(f"{what}?", err=True)
