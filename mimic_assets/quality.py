"""Quality: the checks that a build answers itself; how they are declared, and what they show."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from mimic_assets.partitions import BY_ASSET
from mimic_core import outcomes
from mimic_core.contract import LEAK
from mimic_core.sources import SPLITS

CONTRACT, DISJOINT = "decision_table_contract", "individuals_disjoint"


def check_spec(asset: str, name: str, description: str) -> dg.AssetCheckSpec:
    """Declare a check that the builds of an asset answer."""
    return dg.AssetCheckSpec(name, asset=asset, description=description, partitions_def=BY_ASSET[asset])


def outs(checks: Sequence[dg.AssetCheckSpec]) -> Mapping[str, dg.Out]:
    """Return the outputs of the op that publishes: its result, and one for each check, which may stay unanswered."""
    return {"result": dg.Out(dg.Nothing)} | {check.name: dg.Out(dg.Nothing, is_required=False) for check in checks}


def published(checks: Sequence[dg.AssetCheckSpec], made: Any) -> dict[str, Any]:
    """Return what the graph of an asset returns, of the outputs of the op that publishes."""
    answers = {check.get_python_identifier(): getattr(made, check.name) for check in checks}
    return {"result": made.result, **answers}


def contract_result(asset: str, report: dict[str, Any]) -> dg.AssetCheckResult:
    """Return what that check shows of one build; decisions that were left out are a warning."""
    return dg.AssetCheckResult(
        passed=not report["violations"] and not report["left_out"],
        asset_key=asset,
        check_name=CONTRACT,
        severity=dg.AssetCheckSeverity.ERROR if report["violations"] else dg.AssetCheckSeverity.WARN,
        metadata={
            "broken rules": _listed(report["violations"]),
            "left out": _listed(report["left_out"]),
            "dropped decisions": report["dropped_decisions"],
            "outcome": dg.MetadataValue.json(report),
        },
    )


def disjoint_result(asset: str, report: dict[str, Any], individuals: Mapping[str, int]) -> dg.AssetCheckResult:
    """Return what that check shows of one build.

    Args:
        report: of the contract.
        individuals: split -> how many have rows in it.
    """
    leaks = [violation for violation in report["violations"] if violation["rule"] == LEAK]
    return dg.AssetCheckResult(
        passed=not leaks,
        asset_key=asset,
        check_name=DISJOINT,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={
            **{f"{split} individuals": individuals[split] for split in SPLITS},
            "individuals in both": sum(violation["count"] for violation in leaks),
            "examples": ", ".join(example for violation in leaks for example in violation["examples"]) or "none",
        },
    )


def _listed(violations: Sequence[dict[str, Any]]) -> str:
    return "; ".join(str(outcomes.Violation(**violation)) for violation in violations) or "none"
