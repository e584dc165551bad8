"""`mimic runs`: what can be done with trained runs beside training and applying them."""

import json

import click


@click.group()
def runs() -> None:
    """Compare trained runs, or take them out of use.

    \b
    Examples:
      mimic runs compare 07c49bc0 9b0556be
      mimic runs retire mimic-log-odds/test-experiment/07c49bc0... 9b0556be
    """


@runs.command()
@click.argument("run", metavar="RUN")
@click.option(
    "--ratio",
    "ratios",
    type=(str, str),
    metavar="NUMERATOR DENOMINATOR",
    multiple=True,
    help="Divide one coefficient by another, as for a willingness to pay; may be given again.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")
def coefficients(run: str, ratios: tuple[tuple[str, str], ...], as_json: bool) -> None:
    """Show the coefficients of a linear run with their errors, and ratios of them.

    RUN is SPACE/EXPERIMENT/RUN_ID as in `mimic status`, or at least 8 digits that begin a run id. z, p and intervals are
    made with errors clustered by individual; those of a ratio by the delta method.

    \b
    Examples:
      mimic runs coefficients 9b0556be
      mimic runs coefficients 9b0556be --ratio time cost
    """
    from mimic_assets.cli.environment import resources_to_read
    from mimic_assets.cli.output import print_columns
    from mimic_assets.coefficients import run_coefficients
    from mimic_core.coefficient_text import RATIO_HEADINGS, ratio_of_text, rows_of_text, statistics_of_text

    resources = resources_to_read()
    found = run_coefficients(run, ratios, resources["specs"], resources["artefacts"])
    if as_json:
        click.echo(json.dumps(found.document(), indent=1))
        return
    print_columns(rows_of_text(found.table), numbers=True)
    click.echo(statistics_of_text(found.table))
    if found.table["separated"]:
        click.echo(f"warning: no finite estimate, since they separate: {', '.join(found.table['separated'])}")
    for said in found.table["withheld"]:
        click.echo(f"note: {said}")
    if found.ratios:
        click.echo()
        print_columns([RATIO_HEADINGS, *map(ratio_of_text, found.ratios)], numbers=True)


@runs.command()
@click.argument("runs", metavar="RUN RUN", nargs=2)
@click.option(
    "--split",
    type=click.Choice(["train", "validation", "test"]),
    default="test",
    show_default=True,
    help="Whose decisions they are compared on.",
)
@click.option(
    "--resamples",
    type=click.IntRange(100, 1_000_000),
    default=2000,
    show_default=True,
    help="How often individuals are drawn anew.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of these draws.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")
def compare(runs: tuple[str, str], split: str, resamples: int, seed: int, as_json: bool) -> None:
    """Tell whether one run explains the same decisions better than another.

    RUN is SPACE/EXPERIMENT/RUN_ID as in `mimic status`, or at least 8 digits that begin a run id. Both must be trained on
    one version of a dataset. The difference, of the first run less the second, has a 95% interval from a paired bootstrap
    over individuals. A lower NLL and a higher D-NLP are better.

    \b
    Example:
      mimic runs compare 07c49bc0 9b0556be
    """
    from mimic_assets.cli.environment import resources_to_read
    from mimic_assets.cli.output import print_columns
    from mimic_assets.comparisons import compare_runs

    resources = resources_to_read()
    compared = compare_runs(resources["specs"], resources["artefacts"], runs, split=split, resamples=resamples, seed=seed)
    if as_json:
        click.echo(json.dumps(compared.document(), indent=1))
        return
    found = compared.found
    print_columns(compared.rows())
    click.echo(
        f"{found.resamples:,} resamples of {found.individuals:,} individuals ({found.decisions:,} decisions); the first run "
        f"has the lower NLL in {found.first_better:.1%} of them"
    )
    click.echo(compared.conclusion())


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
    from mimic_assets.cli.ended import end_dead_runs
    from mimic_assets.cli.environment import local_resources, open_instance, require_home

    require_home()
    resources = local_resources()
    specs = resources["specs"]
    with open_instance() as instance:
        end_dead_runs(instance, resources)
        found = retirement.runs_to_retire(instance, specs, keys)
        if not dry_run:
            retirement.retire(instance, specs, resources["tables"], resources["artefacts"], found)
    for run in found:
        click.echo(f"{'would retire' if dry_run else 'retired'}: {run.key}")
    if not dry_run:
        click.echo("`mimic gc` removes their files", err=True)
