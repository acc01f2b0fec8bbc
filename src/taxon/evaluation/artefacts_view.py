"""The report's section on artefacts: what was exported, whether it is equal, how large and fast.

An export comes after the evaluation as a rule, so the section is put anew into the page that is
there, between two marks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from taxon.bundle import ArtefactInfo
from taxon.bundle.artefact import Speed, artefact_name
from taxon.core.machine import machine_sentence
from taxon.evaluation.page import environment
from taxon.evaluation.wording import percent

START, END = "<!-- artefacts -->", "<!-- end of artefacts -->"
SHOWN_PICTURES = 5


@dataclass(frozen=True)
class ArtefactRow:
    """One artefact as the page shows it; texts are empty where there is nothing to say."""

    name: str
    size: str
    single: str
    batch: str
    rival: str
    difference: str
    changed: str
    pictures: str
    macro_f1: str
    notes: tuple[str, ...]


def artefacts_section(artefacts: Sequence[ArtefactInfo]) -> Markup:
    """Return the section with its marks."""
    machines = {machine_sentence(info.machine) for info in artefacts if info.machine}
    html = (
        environment()
        .get_template("artefacts.html")
        .render(rows=[_row(info) for info in artefacts], machines=sorted(machines))
    )
    return Markup(f"{START}\n{html}\n{END}")


def place_artefacts(page: str, artefacts: Sequence[ArtefactInfo]) -> str | None:
    """Return a report with its section on artefacts written anew; None where it has no marks."""
    before, start, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        return None
    return f"{before}{artefacts_section(artefacts)}{after}"


def _row(info: ArtefactInfo) -> ArtefactRow:
    # The comparison that says most is the last: on the user's pictures, where there are any.
    report = info.parity[-1] if info.parity else {}
    speeds = {speed.batch: _speed(speed) for speed in info.speed}
    return ArtefactRow(
        name=artefact_name(info.format, info.frame),
        size=f"{info.size / 1e6:.1f} MB",
        single=speeds.get(1, ""),
        batch=speeds.get(8, ""),
        rival=info.speed[0].rival if info.speed else "",
        difference=f"{report['largest_difference']:.1e}" if report else "",
        changed=f"{report['changed_decisions']} of {report['pictures']}" if report else "",
        pictures=", ".join(report.get("changed_pictures", ())[:SHOWN_PICTURES]),
        macro_f1=_pair(report.get("macro_f1")),
        notes=info.notes,
    )


def _speed(speed: Speed) -> str:
    return f"{speed.p50_ms:.1f} ms ({speed.ratio:.2f}x)"


def _pair(figures: dict[str, Any] | None) -> str:
    if not figures:
        return ""
    return f"{percent(figures['reference'])} → {percent(figures['artefact'])}"
