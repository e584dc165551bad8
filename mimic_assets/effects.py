"""Effects: how Dagster shows what the features of an inference do, as a table and as a picture."""

from typing import Any

import dagster as dg

from mimic_assets.pictures import markdown_table, picture
from mimic_core import plots
from mimic_core.effects import Effect

HEADER = ("feature", "alternative", "rows", "mean dP/dx", "mean elasticity", "aggregate elasticity", "elasticity, 5% to 95%")


def effects_shown(document: dict[str, Any]) -> dict[str, dg.MarkdownMetadataValue]:
    """Return the metadata for the effects of a manifest; none where nothing was to be explained, or there are no rows."""
    found = [Effect(**effect) for effect in document.get("effects", [])]
    if not found:
        return {}
    return {
        "effects": dg.MetadataValue.md(markdown_table([HEADER, *map(_cells, found)])),
        "elasticities": picture("elasticities", plots.elasticities(found)),
    }


def _cells(effect: Effect) -> tuple[str, ...]:
    low_high = effect.elasticity_quantiles
    return (
        effect.feature,
        "all" if effect.alternative is None else effect.alternative,
        f"{effect.rows:,}",
        *map(_number, (effect.marginal_effect_mean, effect.elasticity_mean, effect.elasticity_aggregate)),
        f"{_number(low_high[0])} to {_number(low_high[-1])}" if low_high else "",
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
