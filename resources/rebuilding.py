"""Rebuilding: how eagerly the platform rebuilds, as a resource that the UI shows, and what a person approved."""

from collections.abc import Iterable

import dagster as dg

from mimic_core.manifests import seal, unseal
from mimic_core.rebuilds import Policy
from resources.artefacts import ArtefactStore

APPROVED = "approved-rebuild.json"


class RebuildPolicy(dg.ConfigurableResource):  # type: ignore[type-arg]
    """How eagerly the platform rebuilds; see `mimic_core.rebuilds.Policy`."""

    settle_seconds: float = Policy.settle_seconds
    max_in_flight: int = Policy.max_in_flight
    max_runs_per_change: int = Policy.max_runs_per_change

    def policy(self) -> Policy:
        """Return it as the choice takes it."""
        return Policy(
            settle_seconds=self.settle_seconds,
            max_in_flight=self.max_in_flight,
            max_runs_per_change=self.max_runs_per_change,
        )


def approved(artefacts: ArtefactStore) -> frozenset[str]:
    """Return the goals that a person approved.

    Raises:
        CorruptFileError: the document is damaged.
    """
    if artefacts.status(APPROVED) is None:
        return frozenset()
    return frozenset(unseal(artefacts.read(APPROVED), artefacts.where(APPROVED))["goals"])


def approve(artefacts: ArtefactStore, goals: Iterable[str]) -> None:
    """Record the goals that are approved from now on, in place of those before."""
    artefacts.write(APPROVED, [seal({"goals": sorted(goals)})])
