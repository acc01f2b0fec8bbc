"""The user's pictures for an export: to calibrate on, to choose layers by, and to compare on."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import islice, zip_longest
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from taxon.api.pictures import own_manifest
from taxon.bundle import Bundle
from taxon.core.cores import available_cores
from taxon.core.errors import DataError
from taxon.core.predictions import ImageBatch
from taxon.data import Columns, Manifest, Record, load_manifest
from taxon.data.manifest import Split
from taxon.data.presence import is_unchanged
from taxon.exporters.job import Labelled
from taxon.preprocessing import decode, prepare
from taxon.preprocessing.decode import read_picture
from taxon.preprocessing.frames import fit_frame
from taxon.preprocessing.transform import resize, to_chw

CALIBRATION_PICTURES = 128
VALIDATION_PICTURES = 400
COMPARED_PICTURES = 500


class OwnPictures:
    """Pictures of the run's own manifest, or of a data set that the user names.

    Every picture goes through the bundle's one preprocessing.

    Args:
        frame: (width, height) of whole pictures, where the artefact takes them.
        data: a labelled set to compare on, and to calibrate on where the run's own pictures are
            gone; None: the run's own.
    """

    def __init__(
        self,
        bundle: Bundle,
        data: Path | None = None,
        columns: Columns | None = None,
        *,
        frame: tuple[int, int] | None = None,
    ) -> None:
        self._bundle = bundle
        self._data = data
        self._columns = columns
        self._frame = frame

    def training(self) -> ImageBatch:
        """Pictures of the training part, classes in turn; of `data` where those are gone."""
        own = _in_turn(self._records("train"))
        records = _there(own, CALIBRATION_PICTURES)
        return self._prepare(records or self._named_or_refused(own, CALIBRATION_PICTURES))

    def validation(self) -> Labelled:
        """Pictures of the validation and calibration parts; of `data` where those are gone."""
        own = self._records("validation", "calibration")
        records = _there(_spread_first(own, VALIDATION_PICTURES), VALIDATION_PICTURES)
        return self._labelled(records or self._named_or_refused(own, VALIDATION_PICTURES))

    def compared(self) -> Labelled | None:
        """The pictures that artefact and model are compared on; None where there are none.

        Those of `data`, else the run's own that it was not trained on. Where the artefact takes
        whole pictures, they are first brought to its frame.
        """
        if self._data is not None:
            records = self._named_or_refused((), COMPARED_PICTURES)
        else:
            held_out = self._records("test", "validation", "calibration")
            # The difference that the resize makes is told of the test part, where there is one.
            test = self._records("test") if self._frame is not None else ()
            records = _there(_spread_first(test or held_out, COMPARED_PICTURES), COMPARED_PICTURES)
        if not records:
            return None
        return self._labelled(records) if self._frame is None else self._framed(records)

    def _framed(self, records: Sequence[Record]) -> Labelled:
        """Pictures as a camera with this frame would give them, before and after the resize."""
        frame, spec = cast(tuple[int, int], self._frame), self._bundle.spec.preprocessing

        def load(record: Record) -> tuple[ImageBatch, ImageBatch]:
            whole = fit_frame(decode(read_picture(record.path), spec, record.id), frame)
            return to_chw(whole), to_chw(resize(whole, spec))

        with ThreadPoolExecutor(available_cores()) as pool:
            frames, images = zip(*pool.map(load, records), strict=True)
        names = tuple(record.id for record in records)
        return Labelled(np.stack(images), self._targets(records), names, np.stack(frames))

    def _labelled(self, records: Sequence[Record]) -> Labelled:
        names = tuple(record.id for record in records)
        return Labelled(self._prepare(records), self._targets(records), names)

    def _targets(self, records: Sequence[Record]) -> npt.NDArray[np.int64]:
        space = self._bundle.spec.label_space
        return space.targets(
            [record.labels for record in records], [record.unknown for record in records]
        )

    @cached_property
    def _own(self) -> Manifest | None:
        return own_manifest(self._bundle.path)

    def _records(self, *parts: Split) -> Sequence[Record]:
        """The run's own pictures of some parts; none where it was published without them."""
        return () if self._own is None else self._own.part(*parts).records

    @cached_property
    def _named(self) -> Sequence[Record]:
        if self._data is None:
            return ()
        spec = self._bundle.spec
        return load_manifest(
            self._data, self._columns, label_space=spec.label_space, spec=spec.preprocessing
        ).records

    @property
    def proves_its_choice(self) -> bool:
        """Whether pictures by which layers are chosen are among those that are compared."""
        return self._data is None or not _there(self._records("validation"), 1)

    def _named_or_refused(self, own: Sequence[Record], most: int) -> list[Record]:
        if self._named:
            return _spread(self._named, most)
        path = self._bundle.path
        reason = f"{path} has no pictures of the part that is needed here"
        if own:
            reason = f"none of the pictures of {path} is where it was, and they are needed here"
        raise DataError(f"{reason}; name a labelled data set with --data")

    def _prepare(self, records: Sequence[Record]) -> ImageBatch:
        spec = self._bundle.spec.preprocessing

        def load(record: Record) -> ImageBatch:
            return prepare(read_picture(record.path), spec, record.id)

        with ThreadPoolExecutor(available_cores()) as pool:
            return np.stack(list(pool.map(load, records)))


def _there(records: Sequence[Record], most: int) -> list[Record]:
    """The first so many whose files are where they were, with the content that they had."""
    return list(islice(filter(is_unchanged, records), most))


def _spread(records: Sequence[Record], most: int) -> list[Record]:
    """At most so many, evenly from all."""
    if len(records) <= most:
        return list(records)
    return [records[place] for place in np.linspace(0, len(records) - 1, most).astype(int)]


def _spread_first(records: Sequence[Record], most: int) -> list[Record]:
    """All, those first that `_spread` would take: the others stand in for what is gone."""
    first = _spread(records, most)
    taken = {record.id for record in first}
    return first + [record for record in records if record.id not in taken]


def _in_turn(records: Sequence[Record]) -> list[Record]:
    """One of each label set, then the next of each: the first K show all classes."""
    by_label: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        by_label.setdefault(record.labels, []).append(record)
    turns = zip_longest(*by_label.values())
    return [record for turn in turns for record in turn if record is not None]
