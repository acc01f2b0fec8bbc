"""The page of the audit: one file that shows what the report says and loads nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import encode, make_manifest, make_record, pattern, write_folders

from taxon.auditing import AuditReport, Finding, NextCommands, run_audit, write_page
from taxon.auditing.charts import short_names
from taxon.auditing.page import GROUPS_A_FINDING, PICTURES_A_FINDING
from taxon.auditing.report import About
from taxon.auditing.thumbnails import PICTURES_A_GROUP
from taxon.core.labels import LabelSpace
from taxon.data import Columns, Manifest, Skipped, load_manifest
from taxon.preprocessing import Preprocessing

CHROMIUM = Path("/usr/bin/chromium")
CHECK = "contradicting_labels"
# Tags that do not end a word.
INLINE = ("b", "code", "span", "wbr")


class Page(HTMLParser):
    """What a browser would read of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._quiet = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._quiet = tag == "style"
        self._end_word(tag)

    def handle_endtag(self, tag: str) -> None:
        self._end_word(tag)

    def _end_word(self, tag: str) -> None:
        if tag not in INLINE:
            self.words.append(" ")

    def handle_data(self, data: str) -> None:
        if not self._quiet:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def report_of(manifest: Manifest, *findings: Finding) -> AuditReport:
    """A report with these findings."""
    report = run_audit(manifest, checks=[])
    return report.model_copy(update={"findings": findings})


def finding_of(manifest: Manifest, **changes: Any) -> Finding:
    ids = tuple(record.id for record in manifest.records)
    values = {"check": CHECK, "severity": "error", "record_ids": ids, "score": 1.0}
    return Finding.model_validate({**values, "advice": "look at them.", **changes})


def page_of(report: AuditReport, manifest: Manifest, folder: Path) -> tuple[str, Page]:
    write_page(report, manifest, folder / "audit.html")
    html = (folder / "audit.html").read_text("utf-8")
    return html, Page(html)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Real files of several classes and parts, with something wrong with many of them."""
    root = tmp_path_factory.mktemp("odd")
    write_folders(root, {"train/a": 30, "train/b": 8, "test/a": 12, "test/b": 12})
    copy = (root / "train/a/00.png").read_bytes()
    (root / "test/b/copy.png").write_bytes(copy)
    (root / "train/a/<b>bold & 'quoted'.png").write_bytes(encode(pattern(60, 40, 3)))
    (root / "train/a/half.jpg").write_bytes(encode(pattern(80, 60, 7), "JPEG")[:700])
    return load_manifest(root)


@pytest.fixture(scope="module")
def audited(odd: Manifest) -> AuditReport:
    features = np.random.default_rng(0).normal(size=(len(odd), 8)).astype(np.float32)
    return run_audit(odd, features=features, features_from="noise-net")


def test_page_shows_what_the_report_says(
    odd: Manifest, audited: AuditReport, tmp_path: Path
) -> None:
    _, page = page_of(audited, odd, tmp_path)
    assert len(audited.findings) >= 4
    for finding in audited.findings:
        assert " ".join(finding.advice.replace("`", "").split())[1:] in page.text
    for check, reason in audited.not_run.items():
        assert check.capitalize() in page.text and reason in page.text
    for name, parts in audited.class_counts.items():
        assert f"{name} {sum(parts.values())}" in page.text
    assert f"{audited.count('error')} error" in page.text
    assert "noise-net" in page.text
    assert audited.about.fingerprint in page.text
    skipped = odd.skipped[0]
    assert f"{skipped.id}: {skipped.reason}" in page.text


def test_page_loads_nothing_and_forbids_it(
    odd: Manifest, audited: AuditReport, tmp_path: Path
) -> None:
    html, page = page_of(audited, odd, tmp_path)
    policies = [tag.get("content") for tag in page.all("meta") if "http-equiv" in tag]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert not page.all("script") and not page.all("link") and not page.all("iframe")
    sources = [tag["src"] for tag in page.all("img")]
    assert sources and all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert all(tag["href"].startswith("#") for tag in page.all("a"))
    assert "http://" not in html and "https://" not in html
    assert "url(" not in html and "@import" not in html


def test_every_link_has_its_place_and_every_picture_its_words(
    odd: Manifest, audited: AuditReport, tmp_path: Path
) -> None:
    _, page = page_of(audited, odd, tmp_path)
    places = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(places) == len(set(places))
    assert {tag["href"][1:] for tag in page.all("a")} <= set(places)
    assert all(tag.get("alt") for tag in page.all("img"))


def test_names_are_text_and_not_markup(odd: Manifest, tmp_path: Path) -> None:
    names = tuple(record.id for record in odd.records if "<" in record.id)
    advice = "<script>alert(1)</script> look."
    report = report_of(odd, finding_of(odd, record_ids=names, advice=advice))
    html, page = page_of(report, odd, tmp_path)
    assert not page.all("script")
    assert "<b>bold" not in html
    assert "<b>bold & 'quoted'.png" in page.text


@pytest.mark.parametrize("severity", ["error", "warning", "info"])
def test_severity_is_shown_and_counted(odd: Manifest, severity: str, tmp_path: Path) -> None:
    html, page = page_of(report_of(odd, finding_of(odd, severity=severity)), odd, tmp_path)
    assert f'<section id="{CHECK}" class="{severity}"' in html
    assert f"1 {'note' if severity == 'info' else severity}" in page.text


def test_pictures_of_a_finding_are_capped_and_the_rest_is_counted(
    odd: Manifest, tmp_path: Path
) -> None:
    _, page = page_of(report_of(odd, finding_of(odd)), odd, tmp_path)
    assert len(page.all("img")) == PICTURES_A_FINDING < len(odd)
    assert f"{PICTURES_A_FINDING} of {len(odd)} pictures are shown" in page.text


def test_groups_are_shown_together_with_one_of_each_label(odd: Manifest, tmp_path: Path) -> None:
    ids = [record.id for record in odd.records]
    groups = (tuple(ids), *((name, ids[0]) for name in ids[1 : GROUPS_A_FINDING + 4]))
    details = tuple("rare" if row == len(ids) - 1 else "usual" for row in range(len(ids)))
    finding = finding_of(odd, groups=groups, details=details)
    html, page = page_of(report_of(odd, finding), odd, tmp_path)
    assert html.count('<ul class="gallery">') == GROUPS_A_FINDING
    assert len(page.all("img")) == PICTURES_A_GROUP + 2 * (GROUPS_A_FINDING - 1)
    assert "rare" in page.text
    assert f"and {len(ids) - PICTURES_A_GROUP} more" in page.text
    assert f"{GROUPS_A_FINDING} of {len(groups)} groups are shown" in page.text


def test_plan_of_a_finding_is_said(odd: Manifest, tmp_path: Path) -> None:
    name, label = odd.records[0].id, odd.records[0].labels
    plan = {
        "drop": [{"id": name}],
        "relabel": [{"id": name, "was": label, "labels": ["b"]}] * 2,
        "regroup": [{"group": "g", "ids": [name]}],
    }
    _, page = page_of(report_of(odd, finding_of(odd, plan=plan)), odd, tmp_path)
    expected = "leave out 1 picture, relabel 2 pictures, keep 1 group together"
    assert f"The plan would {expected}." in page.text


def test_what_the_plan_would_change_is_marked(odd: Manifest, tmp_path: Path) -> None:
    names = [record.id for record in odd.records]
    was = odd.records[1].labels
    plan = {
        "drop": [{"id": names[0]}],
        "relabel": [{"id": names[1], "was": was, "labels": ["b"], "accept": False}],
        "regroup": [{"group": "g", "ids": names[:3]}],
    }
    groups = (tuple(names[:2]), tuple(names[3:5]))
    findings = (
        finding_of(odd, plan=plan, record_ids=names[:2]),
        finding_of(odd, check="near_duplicates", record_ids=names[:5], groups=groups),
        finding_of(odd, check="blurred", record_ids=names[3:5]),
    )
    html, page = page_of(report_of(odd, *findings), odd, tmp_path)
    pictures, grouped, blurred = html.split('<section id="')[-4:-1]
    for part in (pictures, grouped):
        # The plan of one finding is marked wherever its pictures are shown.
        assert part.count("plan: drop") == 1
        assert part.count("proposed: relabel to b") == 1
    assert "keep together" not in pictures
    assert grouped.count("plan: keep together") == 1  # of two groups, the one within the step
    assert 'class="mark' not in blurred
    assert "happens as it stands" in page.text  # the legend


def test_groups_are_shown_once_and_linked_from_elsewhere(odd: Manifest, tmp_path: Path) -> None:
    names = [record.id for record in odd.records]
    leaked = tuple((names[n], names[n + 1]) for n in range(0, 6, 2))
    other = (names[10], names[11])
    report = report_of(
        odd,
        finding_of(odd, check="leaked_near_duplicates", groups=leaked),
        finding_of(
            odd, check="near_duplicates", severity="info", groups=(other, *leaked), score=0.1
        ),
    )
    html, page = page_of(report, odd, tmp_path)
    assert len(page.all("img")) == 2 * (len(leaked) + 1)
    near = html.partition('<section id="near_duplicates"')[2]
    assert "3 groups under" in near
    assert 'href="#leaked_near_duplicates"' in near
    assert "are shown; the JSON" not in page.text


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"check": "leaked_files", "score": 0.057}, "Leaked files 3 pictures 5.7 % of all"),
        ({"check": "imbalance", "score": 10.0, "record_ids": ()}, "Class imbalance ratio 10"),
        ({"check": "shortcut_file_size", "score": 0.931}, "Shortcut: file size AUC 0.93"),
        ({"check": "drift_test", "score": 0.7}, "Drift: test AUC 0.70"),
        ({"check": "rows_passed_over", "score": 3.0}, "Rows passed over 3 rows"),
        ({"check": "small_classes", "score": 1.0, "record_ids": ()}, "smallest: 1 picture"),
        ({"check": "never_heard_of", "score": 7.0}, "Never heard of 3 pictures Pictures of"),
    ],
)
def test_summary_gives_the_number_and_the_figure(
    odd: Manifest, changes: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    three = tuple(record.id for record in odd.records[:3])
    finding = finding_of(odd, **{"record_ids": three, **changes})
    html, page = page_of(report_of(odd, finding), odd, tmp_path)
    assert expected in page.text.replace("\u00a0", " ")
    assert f'<a href="#{finding.check}">' in html.partition("</section>")[0]


def test_next_commands_follow_from_the_findings(odd: Manifest, tmp_path: Path) -> None:
    names = [record.id for record in odd.records]
    plan = {"regroup": [{"group": "g", "ids": names[:2]}]}
    leak = finding_of(odd, check="leaked_files", plan=plan)
    _, page = page_of(report_of(odd, leak), odd, tmp_path)
    assert "taxon audit DATA --fix plan.yaml" in page.text
    assert "taxon split DATA --plan plan.yaml --out manifest.parquet --resplit" in page.text
    assert "taxon train manifest.parquet" in page.text

    wrong = [finding_of(odd, check="label_issues", plan=plan), finding_of(odd, check="tiny")]
    write_page(
        report_of(odd, *wrong), odd, tmp_path / "named.html", NextCommands("my photos", "my photos")
    )
    page = Page((tmp_path / "named.html").read_text("utf-8"))
    assert "taxon split 'my photos' --plan plan.yaml --out manifest.parquet Train." in page.text
    assert "1 error or warning has no step in it" in page.text
    assert "DATA" not in page.text

    commands = NextCommands(
        "run",
        "run/manifest.parquet",
        columns=Columns(group="tile"),
        decoding=Preprocessing(truncated="fill"),
        weights="w.safetensors",
        plan=Path("todo.yaml"),
    )
    write_page(report_of(odd, *wrong), odd, tmp_path / "planned.html", commands)
    page = Page((tmp_path / "planned.html").read_text("utf-8"))
    assert "Write the plan" not in page.text and "Read and edit todo.yaml" in page.text
    reading = "--group-column tile --truncated fill"
    split = "taxon split run/manifest.parquet --plan todo.yaml --out manifest.parquet"
    assert f"{split} {reading}" in page.text
    training = "--weights w.safetensors --set preprocessing.truncated=fill"
    assert f"taxon train manifest.parquet {training}" in page.text
    assert commands.audit() == (
        f"taxon audit run --out audit --overwrite {reading} --weights w.safetensors"
    )

    _, page = page_of(report_of(odd, finding_of(odd, check="tiny")), odd, tmp_path)
    assert "no plan can do it for you" in page.text
    assert "plan.yaml" not in page.text

    note = finding_of(odd, check="near_duplicates", severity="info", plan=plan)
    _, page = page_of(report_of(odd, note), odd, tmp_path)
    assert "Nothing here must be mended before training." in page.text
    assert "taxon train DATA" in page.text


def test_label_issue_says_each_class_once_and_by_its_leaf(tmp_path: Path) -> None:
    space = LabelSpace.taxonomy([("Fruit", "Lime"), ("Fruit", "Plum"), ("Root", "Leek")])
    records = tuple(make_record(n, space.names[n % 3]) for n in range(3))
    manifest = Manifest(records, space, tmp_path)
    details = [f"labelled {record.labels[0]}, looks like Fruit/Plum (0.98)" for record in records]
    plan = {
        "relabel": [
            {"id": records[0].id, "was": ["Fruit/Lime"], "labels": ["Fruit/Plum"], "accept": False}
        ]
    }
    finding = finding_of(manifest, check="label_issues", details=details, plan=plan)
    html, page = page_of(report_of(manifest, finding), manifest, tmp_path)
    shown = html.partition('<section id="label_issues"')[2]
    assert "labelled " not in page.text
    assert 'title="Fruit/Lime">Lime</p>' in shown
    assert "Lime proposed: relabel to Plum (0.98) 00000.png" in page.text
    assert "Leek looks like Plum (0.98) 00002.png" in page.text


def test_short_names_are_leaves_with_as_many_parents_as_tell_them_apart() -> None:
    leaves = [("a", "x", "other"), ("a", "y", "other"), ("b", "x", "other"), ("b", "plum")]
    assert short_names(LabelSpace.taxonomy([*leaves, ("plum",), ("pear",)])) == {
        "a/x/other": "a/x/other",
        "a/y/other": "y/other",
        "b/x/other": "b/x/other",
        "b/plum": "b/plum",
        "plum": "plum",
        "pear": "pear",
    }
    flat = LabelSpace.flat("multiclass", ["a/x", "b/y"])
    assert short_names(flat) == {"a/x": "a/x", "b/y": "b/y"}


def test_picture_that_is_gone_leaves_its_words(tmp_path: Path) -> None:
    manifest = make_manifest(make_record(n, "ab"[n % 2]) for n in range(4))
    _, page = page_of(report_of(manifest, finding_of(manifest)), manifest, tmp_path)
    assert not page.all("img")
    assert page.text.count("no picture") == 4
    assert "00003.png" in page.text


def test_page_stays_below_five_megabytes(
    odd: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taxon.auditing.thumbnails.PAGE_BYTES", 12_000)
    html, page = page_of(report_of(odd, finding_of(odd)), odd, tmp_path)
    images = page.all("img")
    assert 0 < len(images) < PICTURES_A_FINDING
    assert sum(len(image["src"] or "") for image in images) <= 12_000
    assert "no picture" in html


def test_many_classes_findings_and_skipped_rows_fit(tmp_path: Path) -> None:
    manifest = make_manifest(make_record(n, f"class {n % 700}") for n in range(1400))
    rows = tuple(Skipped(f"{n}.png", "the file is empty", "empty") for n in range(5000))
    manifest = replace(manifest, skipped=rows)
    report = run_audit(manifest)
    html, page = page_of(report, manifest, tmp_path)
    assert len(html) < 5_000_000
    assert "50 of 5000 are shown" in page.text
    assert "class 699" in page.text


def test_clean_data_have_a_page_too(tmp_path: Path) -> None:
    manifest = make_manifest(make_record(n, "ab"[n % 2]) for n in range(700))
    _, page = page_of(run_audit(manifest, checks=["balance"]), manifest, tmp_path)
    assert "Nothing was found." in page.text


def test_root_without_a_name(tmp_path: Path) -> None:
    manifest = make_manifest(make_record(n, "ab"[n % 2]) for n in range(40))
    report = report_of(manifest)
    about = About.model_validate({**report.about.model_dump(), "root": "/"})
    _, page = page_of(report.model_copy(update={"about": about}), manifest, tmp_path)
    assert page.text.startswith("/: data audit")


# In a browser ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed (pip install playwright)"
    )
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM} (apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_the_screen_and_asks_for_nothing(
    browser: Any, odd: Manifest, audited: AuditReport, tmp_path: Path, width: int, scheme: str
) -> None:
    write_page(audited, odd, tmp_path / "audit.html")
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.goto((tmp_path / "audit.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    red = int(re.findall(r"\d+", ground)[0])
    assert (red < 60) is (scheme == "dark")
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert complaints == []
    page.close()
