"""`mimic runs`: what can be done to trained runs beside training and applying them."""

import click


@click.group()
def runs() -> None:
    """Take trained runs out of use.

    \b
    Example:
      mimic runs retire mimic-log-odds/test-experiment/07c49bc0... 9b0556be
    """


@runs.command()
@click.argument("keys", metavar="KEY...", nargs=-1, required=True)
@click.option("--dry-run", is_flag=True, help="Change nothing; say what would be retired.")
def retire(keys: tuple[str, ...], dry_run: bool) -> None:
    """Take runs out of use: they leave the results table and `mimic status`.

    KEY is SPACE/EXPERIMENT/RUN_ID as in `mimic status`, or at least 8 digits that begin a run id. A run that a registered
    inference applies, or that is being trained, is refused; then none is retired. `mimic gc` removes their files later.
    Registering and training a run again brings it back.

    \b
    Examples:
      mimic runs retire 9b0556be --dry-run
      mimic runs retire 9b0556be 07c49bc0
    """
    from mimic_assets import retirement
    from mimic_assets.cli.environment import local_resources, open_instance
    from mimic_assets.dead_runs import fail_dead_runs

    resources = local_resources()
    specs = resources["specs"]
    with open_instance() as instance:
        fail_dead_runs(instance)
        found = retirement.runs_to_retire(instance, specs, keys)
        if not dry_run:
            retirement.retire(instance, specs, resources["tables"], resources["artefacts"], found)
    for run in found:
        click.echo(f"{'would retire' if dry_run else 'retired'}: {run.key}")
    if not dry_run:
        click.echo("`mimic gc` removes their files", err=True)
