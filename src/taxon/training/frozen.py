"""What frozen blocks make of pictures, computed once a view (LP-FT's first half and beyond).

While blocks are frozen, what they make of a view does not change: the head, and the blocks that
train, go on from there. Probing the head before fine-tuning is the LP-FT of Kumar et al. 2022.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from taxon.config import StageConfig
from taxon.core.errors import Interrupted
from taxon.data.loading.loader import evaluation_batches, pictures_at_once
from taxon.data.loading.sampling import EpochPlan, IntArray, may_repeat
from taxon.models import Classifier
from taxon.models.cut import Segment, cut
from taxon.training.feature_store import FeatureStore, choose_place
from taxon.training.pictures import PictureFeed

# Numbers of views without chance, as the finished model sees pictures: of the validation part,
# and of the training part.
VALIDATION, PLAIN = -1, -2
_SAMPLES = 4


class FrozenFeatures:
    """The stores of a run's partly frozen stages.

    The lowest border's store is filled from pictures; that of a higher border from the lowest
    one's, as long as what lies between them is frozen too.

    Attributes:
        views: of each picture.
    """

    def __init__(
        self, feed: PictureFeed, classifier: Classifier, stages: Sequence[StageConfig], views: int
    ) -> None:
        self.views = views
        self._feed = feed
        self._step = pictures_at_once(feed.job.preprocessing)
        self._team = feed.job.team
        self._classifier = classifier
        self._stages = tuple(stages)
        self._lowest = max(int(stage.unfrozen_blocks) for stage in stages)
        self._base: FeatureStore | None = None
        self._derived: FeatureStore | None = None
        self._between: list[Segment] = []
        self._below: Segment | None = None
        self.summary = ""

    def open(self, stage: StageConfig) -> tuple[FeatureStore, list[Segment]] | None:
        """Return the store at a stage's border and the segments from there to the features.

        None where the network cannot be cut, or there is no room; `summary` then says why.
        """
        self.close_derived()
        count = int(stage.unfrozen_blocks)
        counts = [self._lowest] if count == self._lowest else [self._lowest, count]
        sample = self._sample()
        spec, features = self._classifier.spec, self._classifier.features
        segments = cut(spec, features, counts, sample)
        if segments is None and count == 0:
            # With everything frozen, nothing has to be divided.
            counts = [0]
            segments = cut(spec, features, counts, sample)
        cannot = self._team.any(segments is None)
        if segments is None or cannot:
            self.summary = "this network's code cannot be divided"
            return None
        self._below, *rest = segments
        self._between = rest[:1] if len(counts) == 2 else []
        with torch.no_grad(), self._feed.autocast():
            at_base = self._below(sample)
            at_border = self._between[0](*at_base) if self._between else at_base
        pictures = max(len(self._feed.train), len(self._feed.validation))
        wanted = [at_base] if not self._between else [at_base, at_border]
        fits, folder, self.summary = choose_place(
            [(tensors, self._rows()) for tensors in wanted],
            self._feed.config.feature_cache.gigabytes,
        )
        if self._team.any(not fits):
            return None
        if self._base is None:
            self._base = self._team.attempt(lambda: FeatureStore(at_base, pictures, folder))
        if not self._between:
            return self._base, rest
        self._derived = self._team.attempt(lambda: FeatureStore(at_border, pictures, folder))
        return self._derived, rest[1:]

    def fill(self, store: FeatureStore, view: int) -> None:
        """Compute a view of all pictures that may show it, unless it is there.

        Always whole, and in batches of the same pictures: a resumed run computes the same. Of
        several processes each computes every so-many-th batch, and gets the others' from them:
        the next epoch may show it any picture.
        """
        if view in store:
            return
        self._classifier.eval()
        if store is self._base:
            self._from_pictures(store, view)
        else:
            assert self._base is not None
            self.fill(self._base, view)
            self._from_base(store, view)

    def close(self) -> None:
        """Forget everything: blocks below the lowest border are about to train."""
        self.close_derived()
        if self._base is not None:
            self._base.close()
        self._base = None

    def close_derived(self) -> None:
        """Forget the store of a higher border: what lies below it is about to train."""
        if self._derived is not None:
            self._derived.close()
        self._derived = None

    def _from_pictures(self, store: FeatureStore, view: int) -> None:
        assert self._below is not None
        positions = self._positions(view)
        writer = self._team.attempt(lambda: store.add(view, positions))
        with torch.no_grad(), self._feed.autocast():
            for images in self._team.in_step(self._pictures(view, positions), self._leave):
                writer.append(self._team.rows(self._below(self._feed.to_input(images))))
        writer.finish()

    def _leave(self) -> None:
        if self._feed.job.stop():
            raise Interrupted("stopped")

    def _from_base(self, store: FeatureStore, view: int) -> None:
        assert self._base is not None
        positions = self._positions(view)
        writer = self._team.attempt(lambda: store.add(view, positions))
        with torch.no_grad(), self._feed.autocast():
            for start in self._team.turns(range(0, len(positions), self._step)):
                chosen = positions[start : start + self._step]
                rows = self._base.rows(np.full(len(chosen), view), chosen)
                made = self._between[0](*(row.to(self._feed.device) for row in rows))
                writer.append(self._team.rows(made))
        writer.finish()

    def _positions(self, view: int) -> IntArray:
        """The pictures that may show a view; those for rare classes are of few."""
        if view == VALIDATION:
            return np.arange(len(self._feed.validation))
        if view < self.views:
            return np.arange(len(self._feed.train))
        return np.flatnonzero(may_repeat(self._feed.targets.numpy(), self._feed.job.imbalance))

    def _pictures(self, view: int, positions: IntArray) -> Iterator[torch.Tensor]:
        """This process's batches of a view, as `Team.turns` deals them out."""
        feed = self._feed
        if view in (VALIDATION, PLAIN):
            part = feed.validation if view == VALIDATION else feed.train
            starts = self._team.turns(range(0, len(part), self._step))
            records = [
                record for start in starts for record in part.records[start : start + self._step]
            ]
            made = evaluation_batches(records, feed.job.preprocessing, cache=feed.cache)
            return (torch.from_numpy(images) for images in made)
        plan = EpochPlan(
            positions,
            np.full(len(positions), view >= self.views),
            np.full(len(positions), view, np.int64),
        )
        batches = feed.batches(0, plan, self._step)
        return (batch.images for batch in batches.only(self._team.turns(batches.places)))

    def _sample(self) -> torch.Tensor:
        records = self._feed.train.records[:_SAMPLES]
        images = next(
            evaluation_batches(records, self._feed.job.preprocessing, batch_size=_SAMPLES)
        )
        return self._feed.to_input(torch.from_numpy(images))

    def _rows(self) -> int:
        """How many rows a store may come to hold."""
        epochs = sum(stage.epochs for stage in self._stages)
        views = min(self.views, epochs)
        rare = int(may_repeat(self._feed.targets.numpy(), self._feed.job.imbalance).sum())
        plain = any(stage.method == "logistic" for stage in self._stages)
        train = len(self._feed.train)
        return views * (train + rare) + plain * train + len(self._feed.validation)
