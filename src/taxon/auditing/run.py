"""Run the checks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from taxon.auditing.balance import check_balance, check_calibration
from taxon.auditing.drift import check_drift
from taxon.auditing.duplicates import check_duplicates
from taxon.auditing.evidence import Evidence, gather
from taxon.auditing.files import check_files
from taxon.auditing.finding import Finding, NotRun
from taxon.auditing.label_issues import check_label_issues
from taxon.auditing.label_names import check_label_names
from taxon.auditing.leakage import check_leakage
from taxon.auditing.look_alikes import check_look_alikes
from taxon.auditing.quality import check_quality
from taxon.auditing.report import AuditReport, make_report
from taxon.auditing.shapes import check_shapes
from taxon.auditing.shortcuts import check_shortcuts
from taxon.core.errors import ConfigError, nearest
from taxon.core.predictions import FloatArray
from taxon.data import Manifest
from taxon.preprocessing import Preprocessing

Check = Callable[[Evidence], list[Finding] | NotRun]

CHECKS: dict[str, Check] = {
    "files": check_files,
    "label names": check_label_names,
    "shapes": check_shapes,
    "quality": check_quality,
    "duplicates": check_duplicates,
    "leakage": check_leakage,
    "balance": check_balance,
    "calibration": check_calibration,
    "label issues": check_label_issues,
    "shortcuts": check_shortcuts,
    "drift": check_drift,
}
# Run where they are asked for. Look-alikes: of features of few dimensions it finds too many.
LOOK_ALIKES = "look-alikes"
FURTHER: dict[str, Check] = {LOOK_ALIKES: check_look_alikes}
QUICK = ("files", "label names", "shapes", "quality", "duplicates", "leakage", "balance")
# Which of them look at near-duplicates, or must know what is independent of what.
_SEARCHING = {
    "duplicates",
    "leakage",
    LOOK_ALIKES,
    "balance",
    "label issues",
    "shortcuts",
    "drift",
}


def run_audit(
    manifest: Manifest,
    *,
    features: FloatArray | None = None,
    features_from: str = "",
    probabilities: FloatArray | None = None,
    spec: Preprocessing | None = None,
    seed: int = 0,
    checks: Sequence[str] | None = None,
    listener: Callable[[str], None] | None = None,
) -> AuditReport:
    """Look at a data set before training on it.

    Args:
        features: float32 [N, F] of a frozen backbone, in the order of the records; with them
            labels are judged, look-alikes found, and near-duplicates and drift seen better.
        features_from: the backbone's name, for the report; without features, why there are
            none, for what could not run.
        probabilities: float32 [N, C] of a model that never saw the pictures; labels are judged
            by them in place of a probe on the features.
        spec: the preprocessing that the pictures are meant for; None takes the usual one.
        seed: the same seed and data give the same report.
        checks: names of `CHECKS` and `FURTHER`; None runs all of `CHECKS`.
        listener: told the name of each check before it runs.

    Raises:
        ConfigError: a check that does not exist.
        ValueError: not one row of features, or of probabilities, for each record.
    """
    chosen = tuple(CHECKS) if checks is None else tuple(checks)
    every = CHECKS | FURTHER
    for name in chosen:
        if name not in every:
            raise ConfigError(
                f"there is no check '{name}'; there are: {', '.join(every)}.{nearest(name, every)}"
            )
    spec = spec or Preprocessing()
    ran: dict[str, float] = {}
    not_run: dict[str, str] = {}
    findings: list[Finding] = []
    start = time.perf_counter()
    evidence = gather(
        manifest,
        features=features,
        features_from=features_from,
        spec=spec,
        seed=seed,
        search=bool(_SEARCHING & set(chosen)),
        probabilities=probabilities,
    )
    ran["search for near-duplicates"] = _seconds_since(start)
    for name in chosen:
        if listener is not None:
            listener(name)
        start = time.perf_counter()
        result = every[name](evidence) if len(manifest) or name == "files" else []
        if isinstance(result, NotRun):
            not_run[name] = result.reason
        else:
            findings.extend(result)
            ran[name] = _seconds_since(start)
    return make_report(
        manifest, spec, features_from if features is not None else "", findings, ran, not_run
    )


def quick_findings(manifest: Manifest, spec: Preprocessing | None = None) -> tuple[Finding, ...]:
    """The findings of the checks that take no features, no search and no model: for `train`,
    which looks before it starts."""
    evidence = gather(
        manifest,
        features=None,
        features_from="",
        spec=spec or Preprocessing(),
        seed=0,
        search=False,
    )
    results = [CHECKS[name](evidence) for name in QUICK] if len(manifest) else []
    found = [finding for result in results if not isinstance(result, NotRun) for finding in result]
    return make_report(manifest, evidence.spec, "", found, {}, {}).findings


def _seconds_since(start: float) -> float:
    return round(time.perf_counter() - start, 3)
