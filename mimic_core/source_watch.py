"""Source watch: which source tables a run is to look at, from what they hold now and what was asked for before."""

from collections.abc import Mapping, Set
from dataclasses import dataclass

from mimic_core.manifests import fingerprint
from mimic_core.world import TableState

MOST_TIMES = 2  # that a run is asked for the same tables; one that ends nothing, as for lack of memory, is no loop


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a run was asked for last.

    Attributes:
        lacking: hash of the tables and versions that lacked a profile; empty when none did.
        times: how often a run was asked for just these.
        stale: the tables that were too old.
        unreadable: the tables that could not be read.
    """

    lacking: str = ""
    times: int = 0
    stale: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a run is to do.

    Attributes:
        profiles: tables to look into, the smallest first.
        ages: tables of which only the age is to be judged.
        given_up: how many tables lack a profile although it was asked for as often as it may be.
        asked: what is asked for with it.
    """

    profiles: tuple[str, ...]
    ages: tuple[str, ...]
    given_up: int
    asked: Asked


def choose(tables: Mapping[str, TableState], lacking: Mapping[str, str], stale: Set[str], asked: Asked) -> Wanted:
    """Say what a run is to do; nothing where nothing changed since the last one.

    Args:
        tables: all of them.
        lacking: table that can be read, without a profile of what it holds -> the version that it should have.
        stale: the tables that are too old now.
    """
    unreadable = {name for name, table in tables.items() if table.error}
    turned = (unreadable ^ set(asked.unreadable)) & tables.keys()  # not what they say, which may never be the same twice
    digest = fingerprint(dict(lacking))[:16] if lacking else ""
    times = asked.times if digest == asked.lacking else 0
    again = bool(lacking) and times < MOST_TIMES
    profiles = sorted(turned | (lacking.keys() if again else set()), key=lambda name: (tables[name].rows, name))
    flipped = (stale ^ set(asked.stale)) & {name for name in tables if name not in unreadable}
    return Wanted(
        profiles=tuple(profiles),
        ages=tuple(sorted(flipped - set(profiles))),
        given_up=0 if again else len(lacking),
        asked=Asked(lacking=digest, times=times + again, stale=tuple(sorted(stale)), unreadable=tuple(sorted(unreadable))),
    )
