"""Inference checks: what the checks of an inference table say, in which pictures, and as notes where they warn."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from mimic_assets.pictures import and_more, markdown_table, picture
from mimic_assets.quality import check_spec
from mimic_core import distribution_plots, evaluation
from mimic_core.calibration import ALLOWED, Calibration
from mimic_core.distributions import MOST_SAMPLED
from mimic_core.drift import LIMIT, Drift
from mimic_core.evaluation import Measured
from mimic_core.score_counts import TOLERANCE, ScoreCounts
from mimic_core.wording import listed

ASSET = "inference_table"
SUMS, CALIBRATION, DRIFT = "probabilities_sum_to_one", "calibration", "feature_drift"
MOST_LISTED, MOST_NAMED = 100, 5  # features
NOT_KNOWN = (
    "not known: the run's manifest does not say how the features of its training data are distributed. Either its dataset "
    "was built before datasets said so, or it filters a contrast set by `where`; of the first build the dataset (and the "
    "contrast set below it) and train the run again"
)

CHECKS = [
    check_spec(ASSET, SUMS, f"The probabilities of each decision sum to 1, to {TOLERANCE:g}."),
    check_spec(
        ASSET,
        CALIBRATION,
        "Choices are selected as often as their probabilities say: the expected calibration error, in 15 bins, is at most "
        f"{ALLOWED:g} above what chance alone gives so few rows. Of the test split, or without such decisions the training "
        "split.",
    ),
    check_spec(
        ASSET,
        DRIFT,
        "The rows are like those that the run was trained on: no feature has a population stability index above "
        f"{LIMIT:g}, or where so few rows often have more by chance, above that.",
    ),
]


def sums_result(found: ScoreCounts) -> dg.AssetCheckResult:
    """Return what that check shows of the rows that a build wrote."""
    return dg.AssetCheckResult(
        passed=not found.off,
        asset_key=ASSET,
        check_name=SUMS,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={
            "largest difference from 1": found.largest_difference,
            "decisions": found.decisions,
            "decisions off": found.off,
        },
    )


def calibration_result(found: Calibration | None, measured: Mapping[str, Measured]) -> dg.AssetCheckResult:
    """Return what that check shows; without decisions that have one selected row there is nothing to judge."""
    shown: dict[str, Any] = {}
    if found is not None:
        bins = {found.split: evaluation.calibration(measured[found.split])}
        shown = {
            "calibration error": round(found.error, 6),
            "at most": round(found.limit, 6),
            "by chance": round(found.by_chance, 6),
            "split": found.split,
            "decisions": found.decisions,
            "reliability": picture("reliability", distribution_plots.calibration(bins)),
        }
    return dg.AssetCheckResult(
        passed=found is None or found.kept,
        asset_key=ASSET,
        check_name=CALIBRATION,
        severity=dg.AssetCheckSeverity.WARN,
        description=_calibration_said(found),
        metadata=shown,
    )


def drift_result(found: Sequence[Drift] | None, trained: Mapping[str, Any] | None) -> dg.AssetCheckResult:
    """Return what that check shows.

    Args:
        found: None where it is not known what the run was trained on.
        trained: the distributions of the run's manifest.
    """
    shown: dict[str, Any] = {}
    if found and trained is not None:
        shown = {
            "largest index": round(found[0].index, 6),
            "drifting features": sum(drift.drifts for drift in found),
            "features": dg.MetadataValue.md(_table(found)),
            "sampled training rows": trained["sampled_rows"],
            "training rows": trained["rows"],
            "note": f"of more than {MOST_SAMPLED:,} rows a sample of about so many is compared, the same in every build",
        }
    return dg.AssetCheckResult(
        passed=not any(drift.drifts for drift in found or ()),
        asset_key=ASSET,
        check_name=DRIFT,
        severity=dg.AssetCheckSeverity.WARN,
        description=_drift_said(found),
        metadata=shown,
    )


def warnings(calibrated: Calibration | None, drifts: Sequence[Drift] | None) -> list[str]:
    """Return a note for each of these checks that warns, which the command line prints too."""
    said = [f"calibration: {_calibration_said(calibrated)}"] if calibrated is not None and not calibrated.kept else []
    return said + ([f"feature drift: {_drift_said(drifts)}"] if any(drift.drifts for drift in drifts or ()) else [])


def drift_metric(drifts: Sequence[Drift] | None) -> dict[str, float]:
    """Return the highest index as a metric; none where it is not known."""
    return {"feature_drift": drifts[0].index} if drifts else {}


def scores_shown(found: ScoreCounts) -> dict[str, dg.MarkdownMetadataValue]:
    """Return the metadata for the picture of an inference's probabilities and log-odds; none without rows."""
    return {"scores": picture("scores", distribution_plots.scores(found))} if found.decisions else {}


def _calibration_said(found: Calibration | None) -> str:
    if found is None:
        return "nothing to judge: no decision has exactly one selected row and a positive weight"
    which = {"test": "test decisions", "train": "training decisions (there are no test decisions)"}[found.split]
    return (
        f"the calibration error of the {which} is {found.error:.4f}, expected at most {found.limit:.4f}: {ALLOWED:g}, and "
        f"{found.by_chance:.4f} by chance with so few rows"
    )


def _drift_said(found: Sequence[Drift] | None) -> str:
    if found is None:
        return NOT_KNOWN
    drifting = [drift for drift in found if drift.drifts]
    if not drifting:
        return "no feature is distributed otherwise than in the training data" if found else "nothing to compare: no rows"
    named = listed([f"{drift.feature} {drift.index:.2f}" for drift in drifting], MOST_NAMED)
    return (
        f"{len(drifting):,} of {len(found):,} features are distributed otherwise than in the training data, by their "
        f"population stability index: {named}"
    )


def _table(found: Sequence[Drift]) -> str:
    rows = [
        (drift.feature, f"{drift.index:.4f}", f"{drift.limit:.4f}", "drifts" if drift.drifts else "")
        for drift in found[:MOST_LISTED]
    ]
    table = markdown_table([("feature", "index", "warns above", "verdict"), *rows])
    return table + and_more(len(found) - len(rows), " with a lower index")
