"""The HTML page of an audit: one file, with everything in it, that works without a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from taxon.auditing.charts import class_rows, short_names, size_chart
from taxon.auditing.finding import SEVERITIES, Finding
from taxon.auditing.next_commands import NextCommands
from taxon.auditing.next_steps import next_steps, plan_words
from taxon.auditing.report import AuditReport
from taxon.auditing.terminal import verdict
from taxon.auditing.thumbnails import Cards, Shown, ShownGroup, breaks, prose
from taxon.auditing.wording import percent, pictures
from taxon.core.files import write_text
from taxon.core.text import counted
from taxon.data import Manifest
from taxon.data.manifest import SPLITS

PICTURES_A_FINDING = 24
GROUPS_A_FINDING = 12
LINES_A_FINDING = 50
# Of these the pictures are examples, and their number says nothing.
_EXAMPLES = ("shortcut_", "drift_")
_STARTS = {"shortcut_": "Shortcut", "drift_": "Drift", "label_shift_": "Other class shares"}
_TITLES = {
    "absent_classes": "Classes that a part lacks",
    "centre_crop": "Centre crop cuts much away",
    "changed": "Changed since the manifest",
    "constant": "Pictures of one colour",
    "contradicting_labels": "One file, several labels",
    "contradicting_near_duplicates": "Look-alikes with other labels",
    "damaged": "Damaged files",
    "dropped_by_plan": "Left out by the plan",
    "enlarged": "Much smaller than the input",
    "equal_files": "Copies of files",
    "extreme_aspect": "Very long pictures",
    "few_for_calibration": "Few pictures for calibration",
    "filled": "Incomplete files, filled with grey",
    "imbalance": "Class imbalance",
    "label_issues": "Possibly wrong labels",
    "leaked_files": "Leaked files",
    "leaked_groups": "Leaked groups",
    "leaked_near_duplicates": "Leaked near-duplicates",
    "look_alikes": "Alike to the model",
    "look_alikes_across_parts": "Alike to the model, in different parts",
    "mixed_modes": "Mixed kinds of pixels",
    "near_duplicates": "Near-duplicates",
    "similar_class_names": "One class, several spellings",
    "tiny": "Tiny pictures",
    "too_large": "Too many pixels",
    "truncated": "Incomplete files",
    "unsplittable_classes": "Classes too small to split",
    "unusable_names": "Unusable file names",
    "wrong_suffix": "Wrong file suffix",
}
_SHARES = (
    "leaked_ blurred constant enlarged extreme_aspect filled label_issues look_alikes mixed_modes"
)
_SHARES += " tiny very_ wrong_suffix"
# How a check's name starts -> its score in words; a score that merely counts pictures has none.
_FIGURES: dict[str, Callable[[Finding], str]] = {
    **dict.fromkeys(_SHARES.split(), lambda found: f"{percent(found.score)} of all"),
    **dict.fromkeys(_EXAMPLES, lambda found: f"AUC {found.score:.2f}"),
    "absent_classes": lambda found: _classes(found.score),
    "centre_crop": lambda found: f"{percent(found.score)} cut away",
    "contradicting_": lambda found: counted(len(found.groups), "group", "groups"),
    "empty_classes": lambda found: _classes(found.score),
    "equal_files": lambda found: f"{percent(found.score)} are copies",
    "few_for_calibration": lambda found: f"smallest: {pictures(round(found.score))}",
    "imbalance": lambda found: "ratio " + f"{found.score:,.1f}".removesuffix(".0"),
    "label_shift_": lambda found: f"{percent(found.score)} differ",
    "near_duplicates": lambda found: counted(len(found.groups), "group", "groups"),
    "similar_class_names": lambda found: _classes(found.score),
    "small_classes": lambda found: f"smallest: {pictures(round(found.score))}",
    "unsplittable_classes": lambda found: _classes(found.score),
}


@dataclass(frozen=True)
class Section:
    """A finding as the page shows it.

    Attributes:
        concerned: how many pictures, in words; or empty.
        figure: what the check measured, in a few words; or empty.
        lines: (name, reason) of what has no picture to show.
        elsewhere: (check, title, in words how many) of groups that another section shows.
        more: how many of its pictures, groups or lines are not shown, in words; or empty.
        plan: what its plan says and proposes, a sentence each.
    """

    finding: Finding
    title: str
    concerned: str
    figure: str
    pictures: tuple[Shown, ...]
    groups: tuple[ShownGroup, ...]
    lines: tuple[tuple[str, str], ...]
    elsewhere: tuple[tuple[str, str, str], ...]
    more: str
    plan: tuple[str, ...]


def write_page(
    report: AuditReport, manifest: Manifest, path: Path, commands: NextCommands | None = None
) -> None:
    """Write the report as one self-contained HTML file, below 5 MB.

    It loads nothing from anywhere, and its own security policy forbids it to.

    Args:
        manifest: that the report was made of; its pictures become thumbnails.
        path: the file to write; it appears whole or not at all.
        commands: what to run next; None writes DATA for the data.

    Raises:
        OutputError: the file cannot be written.
    """
    html = (
        _environment()
        .get_template("audit.html")
        .render(
            title=Path(report.about.root).name or report.about.root,
            subtitle=_subtitle(report),
            verdict=verdict(report),
            severities=[(name, report.count(name)) for name in SEVERITIES],
            next=next_steps(report, commands),
            sections=_sections(report, manifest),
            classes=class_rows(report.class_counts, short_names(manifest.label_space)),
            parts=[part for part in SPLITS if part in report.about.parts],
            tags=report.about.task == "multilabel",
            sizes=report.sizes,
            size_chart=size_chart(report.sizes, report.about.input_size) if report.sizes else None,
            input_size=report.about.input_size,
            not_run=report.not_run,
            notes=report.about.notes,
            facts=_facts(report),
        )
    )
    write_text(path, html)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("taxon.auditing"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breaks"] = breaks
    environment.filters["prose"] = prose
    return environment


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
    for start, title in _STARTS.items():
        if check.startswith(start):
            return f"{title}: {check.removeprefix(start).replace('_', ' ')}"
    return _TITLES.get(check, check.replace("_", " ").capitalize())


def _figure(finding: Finding) -> str:
    words = next((say for start, say in _FIGURES.items() if finding.check.startswith(start)), None)
    return "" if words is None else words(finding)


def _classes(count: float) -> str:
    return counted(round(count), "class", "classes")


def _concerned(finding: Finding) -> str:
    count = len(finding.record_ids)
    if not count or finding.check.startswith(_EXAMPLES):
        return ""
    return counted(count, "row", "rows") if finding.check.startswith("rows_") else pictures(count)


def _sections(report: AuditReport, manifest: Manifest) -> list[Section]:
    """The findings, each group of pictures under the first that has it."""
    cards = Cards(manifest, report.plan, short_names(manifest.label_space))
    homes: dict[frozenset[str], Finding] = {}
    for finding in report.findings:
        for group in finding.groups:
            homes.setdefault(frozenset(group), finding)
    return [_section(finding, cards, homes) for finding in report.findings]


def _section(finding: Finding, cards: Cards, homes: Mapping[frozenset[str], Finding]) -> Section:
    details = dict(zip(finding.record_ids, finding.details, strict=False))
    own = [group for group in finding.groups if homes[frozenset(group)] is finding]
    groups = [cards.group(group, details) for group in own[:GROUPS_A_FINDING]]
    names = [name for name in finding.record_ids if name in cards]
    single = [] if finding.groups else names[:PICTURES_A_FINDING]
    lines = [(name, details.get(name, "")) for name in finding.record_ids if name not in cards]
    more = ""
    if len(own) > len(groups):
        more = f"{len(groups)} of {len(own)} groups are shown"
    elif not finding.groups and len(names) > len(single):
        more = f"{len(single)} of {len(names)} pictures are shown"
    elif not names and len(lines) > LINES_A_FINDING:
        more = f"{LINES_A_FINDING} of {len(lines)} are shown"
    return Section(
        finding=finding,
        title=_title(finding.check),
        concerned=_concerned(finding),
        figure=_figure(finding),
        pictures=tuple(cards.picture(name, details.get(name, "")) for name in single),
        groups=tuple(groups),
        lines=tuple(lines[:LINES_A_FINDING]),
        elsewhere=_elsewhere(finding, homes),
        more=more,
        plan=plan_words(finding.plan),
    )


def _elsewhere(
    finding: Finding, homes: Mapping[frozenset[str], Finding]
) -> tuple[tuple[str, str, str], ...]:
    found: dict[str, int] = {}
    for group in finding.groups:
        home = homes[frozenset(group)]
        if home is not finding:
            found[home.check] = found.get(home.check, 0) + 1
    return tuple(
        (check, _title(check), counted(count, "group", "groups")) for check, count in found.items()
    )


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
