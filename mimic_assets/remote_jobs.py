"""Remote jobs: the one by which commands elsewhere register many specs at once, and have them built."""

import json
import time

import dagster as dg
from pydantic import Field

from mimic_assets.failures import fails_clearly
from mimic_assets.layers_code import require_allowed
from mimic_assets.planning import make_plan
from mimic_assets.posted import REGISTERED, REGISTERS, SPECS, STEP, require_protocol
from mimic_assets.ready import require_ready
from mimic_assets.registration import New, add_partitions, register
from mimic_core.configs import collect, parse_spec
from mimic_core.errors import SpecError
from mimic_core.specs import PartitionSpec, ReportSpec
from mimic_core.world import Node, State
from resources.artefacts import ArtefactStore
from resources.environments import in_cluster
from resources.inventory import Inventory
from resources.requests import BuildRequest, store_first
from resources.specs import SpecStore
from resources.tables import TableStore


class PostedSpec(dg.Config):
    """A spec as somebody set it."""

    document: str = Field(description="The spec, as a JSON object.")
    key: str = Field(description="Its partition key where it was posted.")
    layers: str = Field("", description="Which of `layers_files` belongs to it; empty for none.")


class Posted(dg.Config):
    """Specs of one asset, and whether they are to be built."""

    protocol: int = Field(description="The version in which they are posted.")
    asset: str = Field(description=f"Whose partitions they are: {', '.join(SPECS)}.")
    specs: list[PostedSpec] = Field(description="The specs; of experiments those of their runs.")
    layers_files: dict[str, str] = Field({}, description="Texts of layers files by any names.")
    build: bool = Field(False, description="Whether the daemon starts a run for each partition.")
    launch: str = Field(description="An id of the command that posts them, of its own: 32 hexadecimal digits.")
    user: str = Field("", description="Who posts them, as a tag of the runs that build them.")
    where: str = Field("specs", description="What the config is called in messages.")


@dg.op(
    name=STEP,
    out=dg.Out(list[str]),
    description="Registers specs that were posted, after all of them were checked, and asks for builds.",
)
@fails_clearly
def register_posted(
    context: dg.OpExecutionContext,
    config: Posted,
    specs: SpecStore,
    tables: TableStore,
    artefacts: ArtefactStore,
    inventory: Inventory,
) -> dg.Output[list[str]]:
    """Check, register and ask for builds, as a command on the same machine does."""
    new = parse_posted(config)
    found = [spec for spec, _ in new]
    if config.build:
        require_ready(found, {"specs": specs, "tables": tables, "artefacts": artefacts})
    keys = _register(context.instance, specs, config.asset, new)
    context.log.info(f"registered in {config.asset}, by {config.user or 'somebody'}: {', '.join(keys)}")
    current: list[str] = []
    if config.build:
        plan, _ = make_plan(context.instance, inventory, context.run_id)
        nodes = (plan.partitions.get(Node(config.asset, key)) for key in keys)
        current = [str(each.node) for each in nodes if each and each.state == State.CURRENT]
        request = BuildRequest(
            launch=config.launch, asset=config.asset, keys=tuple(keys), time=time.time(), user=config.user
        )
        store_first(artefacts, request)  # the command may have withdrawn it already
    said = {
        "current": current,
        "in_cluster": in_cluster(),
        "launches_anew": context.instance.run_retries_enabled,
    }
    return dg.Output(keys, metadata={"asset": config.asset, "partitions": keys, REGISTERED: dg.MetadataValue.json(said)})


def parse_posted(posted: Posted) -> list[New]:
    """Turn what was posted into specs to register, each with its layers file; nothing of it is executed.

    Raises:
        SpecError: every problem of every spec; or a layers file that may not be executed here; or another version of mimic
            posted them.
    """
    require_protocol(posted.protocol)
    if posted.asset not in SPECS or not posted.specs:
        raise SpecError(f"{posted.where}: expected specs of one of {', '.join(SPECS)}, found {posted.asset!r}")
    for text in posted.layers_files.values():
        require_allowed(text, posted.where)

    def parse(each: PostedSpec) -> New:
        spec = parse_spec(SPECS[posted.asset], json.loads(each.document), posted.where)
        if spec.key != each.key:
            raise SpecError(f"{posted.where}: {each.key} is {spec.key} on this server; install the same mimic on both sides")
        return spec, posted.layers_files[each.layers] if each.layers else ""

    return collect(parse, posted.specs)


def _register(instance: dg.DagsterInstance, specs: SpecStore, asset: str, new: list[New]) -> list[str]:
    if asset != ReportSpec.asset:
        return register(instance, specs, new)
    found: list[PartitionSpec] = [spec for spec, _ in new]
    add_partitions(instance, asset, [spec.key for spec in found])  # reports are registered nowhere
    return [spec.key for spec in found]


@dg.job(
    name=REGISTERS,
    description="Registers what `mimic --server` posts: many specs at once, with their layers files, and has them built. "
    "People fill in the forms of the other register jobs instead.",
    executor_def=dg.in_process_executor,  # in a cluster too: a Job for this one step would take longer than it
    tags={"dagster/max_retries": "0"},  # whoever posted it is told that it failed, and nothing may be built after that
)
def register_specs() -> None:
    """Register what a command elsewhere posts."""
    register_posted()
