"""Thumbnails: small pictures as data URIs within a limit for the whole page, and their captions."""

from __future__ import annotations

import base64
import io
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup, escape

from taxon.auditing.wording import labels_of
from taxon.core.errors import ImageError
from taxon.data import Manifest, Record
from taxon.data.plan import Plan
from taxon.preprocessing import Preprocessing, decode
from taxon.preprocessing.decode import read_picture

SIDE = 120
PAGE_BYTES = 3_500_000
PICTURES_A_GROUP = 7
# Large JPEGs are decoded at a fraction of their size, and damaged ones are shown as far as they go.
_SPEC = Preprocessing(jpeg_dct_scaling=True, truncated="fill")
# Of a file name that is too long the middle is left out: this much of its end stays.
_END = 9
_DOUBT = re.compile(r"looks like (?P<name>.+) \((?P<sure>[\d.]+)\)")
_WHOLE = re.compile(r"(?<![\w-])(--\w[\w-]*|\w{1,2}-\w{1,12}(?![\w-]))")


class Thumbnails:
    """Makes each thumbnail once; says None where there is no picture or no room left.

    Args:
        manifest: whose records give the files.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._records: Mapping[str, Record] = {record.id: record for record in manifest.records}
        self._made: dict[str, str | None] = {}
        self._room = PAGE_BYTES

    def __call__(self, name: str) -> str | None:
        """Return the data URI of a small JPEG."""
        if name not in self._made:
            uri = self._make(name)
            self._made[name] = uri
        # A picture that is shown twice is twice in the page.
        uri = self._made[name]
        if uri is None or len(uri) > self._room:
            return None
        self._room -= len(uri)
        return uri

    def _make(self, name: str) -> str | None:
        record = self._records.get(name)
        if record is None or not self._room:
            return None
        try:
            image = decode(read_picture(record.path), _SPEC, name, at_least=SIDE)
        except ImageError:
            return None  # a page with one picture less is better than no page
        image.thumbnail((SIDE, SIDE))
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=78)
        return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


@dataclass(frozen=True)
class Mark:
    """What the plan would do with a picture or a group.

    Attributes:
        words: `plan: drop`; `proposed: drop` where a person must accept the step first.
        certain: the step is done as it stands.
    """

    words: str
    certain: bool


@dataclass(frozen=True)
class Shown:
    """A picture on the page.

    Attributes:
        start, end: the id in two parts, so that a narrow caption can leave out its middle.
        label: its classes by their short names.
        labels: its classes in full.
        detail: a few words on it, without what the label and the marks say.
    """

    id: str
    start: str
    end: str
    image: str | None
    label: str
    labels: str
    detail: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class ShownGroup:
    """Pictures that belong together, and how many more there are.

    Attributes:
        label, labels: short and in full, where all that are shown have the same; else empty.
    """

    pictures: tuple[Shown, ...]
    more: int
    label: str
    labels: str
    marks: tuple[Mark, ...]


class Cards:
    """Makes what the page shows of a picture and of a group.

    Args:
        manifest: of which the pictures are.
        plan: of all findings, whose steps are marked.
        short: class name -> the name to show.
    """

    def __init__(self, manifest: Manifest, plan: Plan, short: Mapping[str, str]) -> None:
        self._records = {record.id: record for record in manifest.records}
        self._thumbnails = Thumbnails(manifest)
        self._short = short
        self._marks: dict[str, list[Mark]] = defaultdict(list)
        self._together: dict[str, list[tuple[frozenset[str], bool]]] = defaultdict(list)
        self._read(plan)

    def __contains__(self, name: str) -> bool:
        return name in self._records

    def picture(self, name: str, detail: str) -> Shown:
        """One picture of the manifest."""
        record = self._records[name]
        words, marks = self._caption(record, detail)
        return Shown(
            id=name,
            start=name[:-_END],
            end=name[-_END:],
            image=self._thumbnails(name),
            label=self._names(record.marked),
            labels=labels_of(record),
            detail=words,
            marks=marks,
        )

    def group(self, group: Sequence[str], details: Mapping[str, str]) -> ShownGroup:
        """Those of a group that are shown; what they share is said once."""
        names = _varied([name for name in group if name in self], details)
        pictures = tuple(self.picture(name, details.get(name, "")) for name in names)
        same = {picture.labels for picture in pictures}
        members = frozenset(group)
        steps = self._together.get(group[0], ())
        certain = [accept for together, accept in steps if members <= together]
        return ShownGroup(
            pictures=pictures,
            more=len(group) - len(pictures),
            label=pictures[0].label if len(same) == 1 else "",
            labels=pictures[0].labels if len(same) == 1 else "",
            marks=(_mark("keep together", any(certain)),) if certain else (),
        )

    def _read(self, plan: Plan) -> None:
        for drop in plan.drop:
            self._marks[drop.id].append(_mark("drop", drop.accept))
        for change in plan.relabel:
            words = f"relabel to {self._names(change.labels)}"
            self._marks[change.id].append(_mark(words, change.accept))
        for step in plan.regroup:
            members = frozenset(step.ids)
            for name in step.ids:
                self._together[name].append((members, step.accept))

    def _names(self, labels: Sequence[str]) -> str:
        return ", ".join(self._short.get(label, label) for label in labels) or "no label"

    def _caption(self, record: Record, detail: str) -> tuple[str, tuple[Mark, ...]]:
        """The detail without what the label and the marks say, and the marks."""
        labels = labels_of(record)
        marks = tuple(self._marks.get(record.id, ()))
        words = "" if detail == labels else detail.removeprefix(f"labelled {labels}, ")
        doubt = _DOUBT.fullmatch(words)
        if doubt is None or doubt["name"] not in self._short:
            return words, marks
        name, sure = self._short[doubt["name"]], f" ({doubt['sure']})"
        said = [mark.words.endswith(f" relabel to {name}") for mark in marks]
        if not any(said):
            return f"looks like {name}{sure}", marks
        return "", tuple(
            replace(mark, words=mark.words + sure) if same else mark
            for mark, same in zip(marks, said, strict=True)
        )


def breaks(text: str) -> Markup:
    """Let a name break after a slash or an underscore, where browsers would not, and keep them
    from breaking `t-shirt` and `--out`."""
    words = re.sub(r"(?<=[/_])(?=[^/_])", "<wbr>", str(escape(text)))
    return Markup(_WHOLE.sub(r'<span class="word">\g<0></span>', words))


def prose(text: str) -> Markup:
    """A sentence: with a capital, `code` as code, and a number with its per cent sign."""
    words = (text[:1].upper() + text[1:]).replace(" %", "\u00a0%").split("`")
    code = Markup('<code class="inline">{}</code>')
    return Markup("").join(
        code.format(breaks(part)) if place % 2 else breaks(part) for place, part in enumerate(words)
    )


def _varied(names: Sequence[str], details: Mapping[str, str]) -> list[str]:
    """As many of a group as are shown, one of each part or label first."""
    firsts = {details.get(name, ""): name for name in reversed(names)}
    order = sorted(names, key=lambda name: firsts[details.get(name, "")] != name)
    shown = set(order[:PICTURES_A_GROUP])
    return [name for name in names if name in shown]


def _mark(words: str, certain: bool) -> Mark:
    return Mark(f"{'plan' if certain else 'proposed'}: {words}", certain)
