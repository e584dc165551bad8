"""Trainings in progress: which epoch each has finished last, as `mimic status` says it. Imported at start-up."""

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mimic_core.planner import Partition
    from mimic_core.world import World
    from resources.artefacts import ArtefactStore

SHOWN = {"loss": "loss {:.4f}", "val_loss": "val_loss {:.4f}", "val_accuracy": "val_accuracy {:.4f}", "seconds": "{:.3g} s"}


def epoch_of(partition: "Partition", world: "World", artefacts: "ArtefactStore") -> dict[str, Any] | None:
    """Return the last finished epoch of a training in progress, or of one that ended unfinished, of a run.

    With the number of `epochs` that it will have at most; a conditional logit has none. None for any other partition, and
    before the first epoch.
    """
    from mimic_core.model_specs import ModelSpec
    from mimic_core.world import RUN, State
    from resources.trainings import epochs_so_far

    if partition.node.asset != RUN or partition.state == State.CURRENT:
        return None
    wants = world.registered[partition.node]
    history = epochs_so_far(artefacts, wants.folder)
    if not history:
        return None
    model = ModelSpec.model_validate(json.loads(wants.document)["model"])
    return history[-1] | {"epochs": None if model.linear else model.epochs}


def words_of(epoch: dict[str, Any]) -> str:
    """Say an epoch of `epoch_of` in words."""
    name, of = ("epoch", f"/{epoch['epochs']}") if epoch["epochs"] else ("iteration", "")
    numbers = [text.format(epoch[key]) for key, text in SHOWN.items() if epoch.get(key) is not None]
    return f"{name} {epoch['epoch']}{of}, {', '.join(numbers)}"
