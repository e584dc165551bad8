"""Source checks: what a source table is by itself, before anything is built of it, as answers of checks."""

from typing import Any

import dagster as dg

from mimic_assets.quality import CONTRACT, DISJOINT, check_spec
from mimic_core.freshness import age_in_days, is_stale, say_freshness
from mimic_core.outcomes import Violation
from mimic_core.profiles import BOTH
from mimic_core.sources import SPLITS
from mimic_core.wording import listed
from mimic_core.world import SOURCE

FRESHNESS = "freshness"
MOST_NAMED = 20  # columns
CHECKS = [
    check_spec(
        SOURCE,
        CONTRACT,
        "The table by itself keeps the decision-table contract: one selected choice per decision, no null or repeated keys, "
        "no individual in both splits. Missing values of features are counted only, because a config may fill them in.",
    ),
    check_spec(SOURCE, DISJOINT, "No individual has rows for training and for testing."),
    check_spec(
        SOURCE,
        FRESHNESS,
        "When the content of the table changed last. Yellow: longer ago than MIMIC_FRESH_DAYS days, where that is set.",
    ),
]


def contract_answer(name: str, document: dict[str, Any]) -> dg.AssetCheckEvaluation:
    """Say whether a table keeps the contract; `document` is its stored profile."""
    if document["problem"]:
        return _answer(name, CONTRACT, passed=False, said=document["problem"])
    report = document["contract"]
    broken = [Violation(**violation) for violation in report["violations"]]
    features = document["profile"]["features"]
    lacking = [feature["feature"] for feature in features if feature["nulls"]]
    infinite = [feature["feature"] for feature in features if feature["infinite"]]
    rules = "; ".join(map(str, broken))
    said = rules or "keeps the contract"
    if not document["labelled"]:
        said += "; without _selected and _train it can be scored, and nothing can be trained on it"
    return _answer(
        name,
        CONTRACT,
        passed=not broken,
        said=said,
        metadata={
            "broken rules": rules or "none",
            "decisions": report["decisions"],
            "largest choice set": report["largest_choice_set"],
            "features with missing values": listed(lacking, MOST_NAMED) or "none",
            "features with infinite values": listed(infinite, MOST_NAMED) or "none",
            "columns that are no numbers": listed(document["others"], MOST_NAMED) or "none",
        },
    )


def disjoint_answer(name: str, document: dict[str, Any]) -> dg.AssetCheckEvaluation:
    """Say whether the splits of a table have no common individual; `document` is its stored profile."""
    if document["problem"]:
        warn = dg.AssetCheckSeverity.WARN
        return _answer(name, DISJOINT, passed=False, severity=warn, said="not known: it cannot be read as a decision table")
    individuals = document["profile"]["individuals"]
    if BOTH not in individuals:
        return _answer(name, DISJOINT, passed=True, said="the table has no splits: no column _train")
    both = individuals[BOTH]
    return _answer(
        name,
        DISJOINT,
        passed=not both,
        said=f"{both:,} individuals have rows in both splits" if both else "no individual has rows in both splits",
        metadata={
            **{f"{split} individuals": individuals[split] for split in SPLITS},
            "individuals in both": both,
            "examples": ", ".join(f"individual {leak}" for leak in document["profile"]["leaks"]) or "none",
        },
    )


def freshness_answer(name: str, changed_at: float, now: float, days: int | None) -> dg.AssetCheckEvaluation:
    """Say when a table changed last, in seconds since 1970, and whether that is longer ago than a limit allows."""
    age = age_in_days(changed_at, now)
    return _answer(
        name,
        FRESHNESS,
        passed=not is_stale(changed_at, now, days),
        severity=dg.AssetCheckSeverity.WARN,
        said=say_freshness(age, days),
        metadata={"changed": dg.MetadataValue.timestamp(changed_at), "days": round(age, 2)},
    )


def _answer(
    name: str,
    check: str,
    *,
    passed: bool,
    said: str,
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR,
    metadata: dict[str, Any] | None = None,
) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(SOURCE),
        check_name=check,
        partition=name,
        passed=passed,
        severity=severity,
        description=said,
        metadata=metadata or {},
    )
