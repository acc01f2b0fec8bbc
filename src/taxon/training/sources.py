"""Where each stage's batches come from, chosen once a stage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from taxon.config import StageConfig, TrainConfig
from taxon.core.errors import OutputError
from taxon.core.text import some
from taxon.data.loading.loader import split_places
from taxon.data.splitting.grouping import unit_numbers
from taxon.models import Classifier
from taxon.training.events import Note
from taxon.training.frozen import PLAIN, VALIDATION, FrozenFeatures
from taxon.training.inputs import Continuation, FeatureInputs, PictureInputs, StageInputs
from taxon.training.logistic import Examples, LinearHead, solve
from taxon.training.pictures import PictureFeed

_SHOWN = 4


def keeps_features(stage: StageConfig, config: TrainConfig) -> bool:
    """Whether a stage goes on from what the frozen blocks made of a bounded number of views.

    Pictures that are mixed anew each epoch have no such views.
    """
    if stage.method == "logistic":
        return True
    mixes = stage.mixing and (config.augment.mixup or config.augment.cutmix)
    return stage.unfrozen_blocks != "all" and config.feature_cache.views > 0 and not mixes


class Sources:
    """Opens the inputs of a run's stages.

    Attributes:
        note: what there is to say about the stage's inputs, or empty.
        views: of each picture, while blocks are frozen; 0: new ones each epoch.
    """

    def __init__(
        self, feed: PictureFeed, classifier: Classifier, stages: Sequence[StageConfig]
    ) -> None:
        self.note = ""
        self._feed = feed
        self._classifier = classifier
        self.views = feed.config.feature_cache.views
        kept = [stage for stage in stages if self.keeps_features(stage)]
        self._frozen = FrozenFeatures(feed, classifier, kept, max(1, self.views)) if kept else None

    def keeps_features(self, stage: StageConfig) -> bool:
        """As `keeps_features`, of this run."""
        return keeps_features(stage, self._feed.config)

    def open(self, stage: StageConfig) -> StageInputs:
        """The inputs of a stage whose blocks are frozen already."""
        self.note = ""
        if stage.unfrozen_blocks == "all" and self._frozen is not None:
            self._frozen.close()
        if not self.keeps_features(stage) or self._frozen is None:
            return PictureInputs(self._feed, self._classifier, views=0, mixing=stage.mixing)
        opened = self._frozen.open(stage)
        if opened is None and stage.method == "logistic":
            raise OutputError(
                f"the logistic stage '{stage.name}' needs the features of all pictures, and they "
                f"can be kept {self._frozen.summary}; free some disk, or take --recipe staged"
            )
        if opened is None:
            self.note = f"features of frozen blocks are not kept: {self._frozen.summary}"
            return PictureInputs(self._feed, self._classifier, views=self.views, mixing=False)
        store, segments = opened
        self.note = (
            f"features of frozen blocks are computed once for {self._frozen.views} views of each "
            f"picture and kept {self._frozen.summary}"
        )
        return FeatureInputs(
            self._feed, self._frozen, store, Continuation(segments, self._classifier.head)
        )

    def solve(self, inputs: StageInputs) -> float:
        """Solve for the head as a logistic regression; return its mean loss on the features."""
        assert isinstance(inputs, FeatureInputs)
        feed, views = self._feed, [PLAIN, *range(self.views)]
        inputs.compute([*views, VALIDATION] if len(feed.validation) else views)
        # Divided among processes, it would be another problem.
        head = feed.job.team.from_first(lambda: self._solved(inputs, views))
        self._set_head(head)
        feed.job.listener(Note(f"head solved for: C = {head.strength:g}, chosen {head.reason}"))
        return head.loss

    def _solved(self, inputs: FeatureInputs, views: Sequence[int]) -> LinearHead:
        feed = self._feed
        space, validation = feed.train.label_space, None
        if len(feed.validation):
            count = len(feed.validation)
            validation = Examples(
                inputs.features([VALIDATION], count),
                feed.validation.targets(),
                np.ones(count),
                np.arange(count),
            )
        train = Examples(
            inputs.features(views, len(feed.train)),
            np.concatenate([feed.targets.numpy()] * len(views)),
            # All views of a picture together count as one picture.
            np.tile(self._picture_weights() / len(views), len(views)),
            np.tile(unit_numbers(feed.train), len(views)),
        )
        return solve(train, validation, classes=len(space.names), seed=feed.config.seed)

    def _picture_weights(self) -> npt.NDArray[np.float64]:
        """float64 [N]: the pictures' own weights; with rare classes, these count more.

        A regression cannot sample or hold back as the strategies for gradient steps do. The
        square root of the frequency is half of what would balance the classes fully.
        """
        weights = self._feed.weights.numpy().astype(np.float64)
        plan, targets = self._feed.job.imbalance, self._feed.targets.numpy()
        if targets.ndim == 2 or plan.strategies == ("none",):
            return weights
        by_class = np.maximum(plan.counts, 1) ** -0.5
        return np.asarray(weights * by_class[targets] / by_class[targets].mean())

    def names(self, epoch: int, step: int) -> str:
        """The pictures of a step (from 0) of an epoch, in words."""
        plan = self._feed.plan(epoch)
        places = split_places(len(plan), self._feed.config.batch_size)[step]
        records = self._feed.train.records
        return some([records[plan.positions[place]].id for place in places], _SHOWN)

    def close(self) -> None:
        """Forget what was kept, and load no more."""
        self._feed.close()
        if self._frozen is not None:
            self._frozen.close()

    def _set_head(self, head: LinearHead) -> None:
        values = {
            "0.mean": head.mean,
            "0.factor": head.factor,
            "1.weight": head.weight,
            "1.bias": head.bias,
        }
        state = {name: torch.from_numpy(value) for name, value in values.items()}
        self._classifier.head.load_state_dict(state)
