"""Previews: how many rows of a build Dagster's pages show, as a resource; none where rows must not leave their tables."""

import dagster as dg


class Previews(dg.ConfigurableResource):  # type: ignore[type-arg]
    """How many rows of every build are shown, and so kept in Dagster's event log; 0 for none."""

    rows: int = 10
