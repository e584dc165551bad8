"""Freshness: how old the content of a source table may be, as a resource that the UI shows."""

import dagster as dg


class Freshness(dg.ConfigurableResource):  # type: ignore[type-arg]
    """After how many days without a change a source table is stale; None: never."""

    days: int | None = None
