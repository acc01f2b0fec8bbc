"""The HTML page of an audit: one file, with everything in it, that works without a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from taxon.auditing.charts import size_chart
from taxon.auditing.finding import SEVERITIES, Finding
from taxon.auditing.report import AuditReport
from taxon.auditing.terminal import verdict
from taxon.auditing.thumbnails import Thumbnails
from taxon.auditing.wording import counted, labels_of, pictures
from taxon.core.files import write_text
from taxon.data import Manifest
from taxon.data.manifest import SPLITS
from taxon.data.plan import Plan

PICTURES_A_FINDING = 24
GROUPS_A_FINDING = 12
PICTURES_A_GROUP = 7
LINES_A_FINDING = 50
_TWO_PARTS = ("shortcut", "drift", "label_shift")


@dataclass(frozen=True)
class Shown:
    """A picture on the page."""

    id: str
    image: str | None
    labels: str
    detail: str


@dataclass(frozen=True)
class ShownGroup:
    """Pictures that belong together, and how many more there are."""

    pictures: tuple[Shown, ...]
    more: int


@dataclass(frozen=True)
class Section:
    """A finding as the page shows it.

    Attributes:
        lines: (name, reason) of what has no picture to show.
        more: how many of its pictures, groups or lines are not shown, in words; or empty.
        plan: what its plan proposes, in words; or empty.
    """

    finding: Finding
    title: str
    advice: str
    pictures: tuple[Shown, ...]
    groups: tuple[ShownGroup, ...]
    lines: tuple[tuple[str, str], ...]
    more: str
    plan: str


@dataclass(frozen=True)
class ClassRow:
    """A class with its pictures by part, as shares of the largest class."""

    name: str
    total: int
    parts: tuple[tuple[str, int, float], ...]


def write_page(report: AuditReport, manifest: Manifest, path: Path) -> None:
    """Write the report as one self-contained HTML file, below 5 MB.

    It loads nothing from anywhere, and its own security policy forbids it to.

    Args:
        manifest: that the report was made of; its pictures become thumbnails.
        path: the file to write; it appears whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    environment = Environment(
        loader=PackageLoader("taxon.auditing"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    thumbnails = Thumbnails(manifest)
    html = environment.get_template("audit.html").render(
        title=Path(report.about.root).name or report.about.root,
        subtitle=_subtitle(report),
        verdict=verdict(report),
        severities=[(name, report.count(name)) for name in SEVERITIES],
        sections=[_section(finding, manifest, thumbnails) for finding in report.findings],
        classes=_class_rows(report),
        parts=[part for part in SPLITS if part in report.about.parts],
        tags=report.about.task == "multilabel",
        sizes=report.sizes,
        size_chart=size_chart(report.sizes, report.about.input_size) if report.sizes else None,
        input_size=report.about.input_size,
        not_run=report.not_run,
        notes=report.about.notes,
        facts=_facts(report),
    )
    write_text(path, html)


def _subtitle(report: AuditReport) -> str:
    about = report.about
    what = ("tag", "tags") if about.task == "multilabel" else ("class", "classes")
    words = [pictures(about.pictures), counted(about.classes, *what)]
    words += [f"{part} {count:,}" for part, count in about.parts.items()]
    if about.skipped:
        words.append(f"{about.skipped:,} left out")
    return " · ".join(words)


def _title(check: str) -> str:
    """`very_dark` -> `Very dark`, `shortcut_file_size` -> `Shortcut: file size`."""
    for start in _TWO_PARTS:
        if check.startswith(f"{start}_"):
            rest = check.removeprefix(f"{start}_").replace("_", " ")
            return f"{start.replace('_', ' ').capitalize()}: {rest}"
    return check.replace("_", " ").capitalize()


def _section(finding: Finding, manifest: Manifest, thumbnails: Thumbnails) -> Section:
    known = {record.id: labels_of(record) for record in manifest.records}
    details = dict(zip(finding.record_ids, finding.details, strict=False))
    repeated = finding.details and all(
        known.get(name) == detail for name, detail in details.items()
    )

    def show(name: str) -> Shown:
        detail = "" if repeated else details.get(name, "")
        return Shown(name, thumbnails(name), known[name], detail)

    groups: list[ShownGroup] = []
    single: list[Shown] = []
    names = [name for name in finding.record_ids if name in known]
    lines = [(name, details.get(name, "")) for name in finding.record_ids if name not in known]
    more = ""
    if finding.groups:
        for group in finding.groups[:GROUPS_A_FINDING]:
            shown = tuple(
                show(name) for name in _varied([name for name in group if name in known], details)
            )
            groups.append(ShownGroup(shown, len(group) - len(shown)))
        if len(finding.groups) > len(groups):
            more = f"{len(groups)} of {len(finding.groups)} groups are shown"
    elif names:
        single = [show(name) for name in names[:PICTURES_A_FINDING]]
        if len(names) > len(single):
            more = f"{len(single)} of {len(names)} pictures are shown"
    elif len(lines) > LINES_A_FINDING:
        more = f"{LINES_A_FINDING} of {len(lines)} are shown"
    return Section(
        finding=finding,
        title=_title(finding.check),
        advice=_sentence(finding.advice),
        pictures=tuple(single),
        groups=tuple(groups),
        lines=tuple(lines[:LINES_A_FINDING]),
        more=more,
        plan=_plan_words(finding.plan),
    )


def _sentence(text: str) -> str:
    """Begin with a capital, and keep a number and its per cent sign on one line."""
    return (text[:1].upper() + text[1:]).replace(" %", "\u00a0%")


def _varied(names: Sequence[str], details: Mapping[str, str]) -> list[str]:
    """As many of a group as are shown, one of each part or label first."""
    firsts = {details.get(name, ""): name for name in reversed(names)}
    order = sorted(names, key=lambda name: firsts[details.get(name, "")] != name)
    shown = set(order[:PICTURES_A_GROUP])
    return [name for name in names if name in shown]


def _plan_words(plan: Plan) -> str:
    words = []
    if plan.drop:
        words.append(f"leave out {pictures(len(plan.drop))}")
    if plan.relabel:
        words.append(f"relabel {pictures(len(plan.relabel))}")
    if plan.regroup:
        words.append(f"keep {counted(len(plan.regroup), 'group', 'groups')} together")
    return ", ".join(words)


def _class_rows(report: AuditReport) -> list[ClassRow]:
    """The classes, the largest first."""
    totals = {name: sum(parts.values()) for name, parts in report.class_counts.items()}
    most = max([*totals.values(), 1])
    return [
        ClassRow(
            name=name,
            total=totals[name],
            parts=tuple(
                (part, count, round(100 * count / most, 2))
                for part, count in report.class_counts[name].items()
            ),
        )
        for name in sorted(totals, key=lambda name: (-totals[name], name))
    ]


def _facts(report: AuditReport) -> Sequence[tuple[str, str]]:
    about = report.about
    ran = ", ".join(f"{check} {seconds:.1f} s" for check, seconds in report.ran.items())
    return [
        ("Data", about.root),
        ("Features", about.features_from or "none"),
        ("Checks", ran),
        ("Data fingerprint", about.fingerprint),
        ("taxon", about.taxon),
    ]
