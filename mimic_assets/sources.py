"""The source tables: decision tables that were imported or registered, observed for changes of their content."""

import time
from collections.abc import Iterator

import dagster as dg
from pydantic import Field

from mimic_assets.failures import attempt
from mimic_assets.partitions import source_tables
from mimic_assets.previews import preview_of
from mimic_assets.signs import Signs, spill_told
from mimic_assets.source_checks import CHECKS, contract_answer, disjoint_answer, freshness_answer
from mimic_assets.source_pages import profile_shown, seen
from mimic_assets.targets import about_newest
from mimic_core.pace import describe_seconds
from mimic_core.profiles import profile_version
from resources.artefacts import ArtefactStore
from resources.freshness import Freshness
from resources.inventory import Inventory
from resources.previews import Previews
from resources.profiles import forget_profiles, profile_table, read_profile, state_of, write_profile
from resources.tables import TableStore

Seen = dg.AssetMaterialization | dg.AssetObservation

DESCRIPTION = """
Decision tables, as people brought them: one row per choice that a decision offered, one of them selected.

- A partition is a table, `database.table`, such as `haven.example_log_odds_features`. It comes from
  `mimic tables import`, or `mimic tables register` for files that stay where they are.
- It is observed, not built. The sensor `source_table_sensor` has each looked into once when its content changed: Partitions
  shows its pictures and numbers, Checks whether it keeps the rules. *Observe* shows those of all tables again.
- **Next**: launch the job `register_dataset`, or `register_contrast_set` where choice sets are large.
"""


class LookedAt(dg.Config):
    """Which source tables a run looks at."""

    tables: list[str] | None = None  # None: all of them
    ages_of: list[str] = Field(default_factory=list)  # tables of which only the age is judged


@dg.multi_observable_source_asset(  # type: ignore[untyped-decorator]
    name="source_table",
    specs=[
        dg.AssetSpec("source_table", description=DESCRIPTION.strip(), group_name="sources", kinds={"iceberg", "parquet"})
    ],
    partitions_def=source_tables,
    check_specs=CHECKS,
    can_subset=True,  # it observes the tables itself, with or without a partition, and returns nothing
)
def source_table(
    context: dg.AssetExecutionContext,
    config: LookedAt,
    tables: TableStore,
    inventory: Inventory,
    artefacts: ArtefactStore,
    freshness: Freshness,
    previews: Previews,
) -> Iterator[Seen | dg.AssetCheckEvaluation]:
    """Profile the tables that nobody did since they changed, and say of each what it holds."""
    known = inventory.sources()
    names = known if config.tables is None else [name for name in config.tables if name in known]
    for name in sorted(names, key=lambda name: (known[name].rows, name)):  # a huge one holds up no other
        # the files of a registered table may be gone; a step that fails would lose the observations of the others
        found, problem = attempt(_look_at, context, name, tables, artefacts, previews)
        if found is None:
            context.log.error(problem)
            document = {"problem": problem}  # what was answered before is no longer known
            for answer in (contract_answer(name, document), disjoint_answer(name, document)):
                yield about_newest(answer, context.instance)
            continue
        events, answers, changed_at = found
        yield from events  # before the answers, which are about them
        for answer in (*answers, freshness_answer(name, changed_at, time.time(), freshness.days)):
            yield about_newest(answer, context.instance)
    for name in config.ages_of:
        if name in known and not known[name].error:
            answer = freshness_answer(name, known[name].changed_at, time.time(), freshness.days)
            yield about_newest(answer, context.instance)
    forget_profiles(artefacts, known)


def _look_at(
    context: dg.AssetExecutionContext, name: str, tables: TableStore, artefacts: ArtefactStore, previews: Previews
) -> tuple[list[Seen], list[dg.AssetCheckEvaluation], float]:
    """Return what a table is said to hold, the answers of its checks, and when it changed; its rows are read if need be."""
    pin = tables.pin(name)
    table = state_of(pin, tables)
    version = profile_version(table)
    document = read_profile(artefacts, name, version)
    if document is None or document["problem"]:
        signs = Signs(context.log.info, name)
        document = profile_table(pin, tables, spill_told(context.log.info, name), signs.at)
        write_profile(artefacts, name, version, document)
        done = f"read {pin.rows:,} rows, in {describe_seconds(signs.seconds)}"
        context.log.info(f"{name}: {document['problem'] or done}")
    events = seen(name, table, profile_shown(document) | preview_of(pin, tables, previews.rows))
    return events, [contract_answer(name, document), disjoint_answer(name, document)], table.changed_at
