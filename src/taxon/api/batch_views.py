"""What a sheet of training pictures shows: views of one picture, and the first batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from taxon.api.batch_sheet import COLUMNS, Section, Tile, drawable_names, listed
from taxon.api.choosing import choose_features
from taxon.api.fine_tuning import imbalance_plan
from taxon.api.starting import Start
from taxon.config import AugmentConfig, TrainConfig
from taxon.core.labels import Task
from taxon.core.text import counted
from taxon.data import Manifest, Record
from taxon.data.imbalance import ImbalancePlan
from taxon.data.loading.augment import describe
from taxon.data.loading.decode_cache import open_decode_cache
from taxon.data.loading.loader import Batch, TrainingBatches, training_batches
from taxon.data.loading.rare_augmentation import (
    build_rare_augmentation,
    describe_rare,
)
from taxon.data.loading.sampling import EpochPlan, plan_epoch, with_bounded_views
from taxon.data.loading.views import ViewMaker
from taxon.evaluation.confusion import short_names
from taxon.preprocessing import Preprocessing, decode, prepare
from taxon.preprocessing.decode import read_picture
from taxon.training import Listener, Note
from taxon.training.device import loading_processes
from taxon.training.mixing import mix, mixing_generator
from taxon.training.sources import keeps_features

PICTURES = 32  # of the first batches, at most
_EPOCHS_TRIED = 100  # a sampler may leave the picture out of some epochs
_LEAST = 0.005  # smaller shares round to nothing
MOST_LINES = 3
_FRAMING = {
    "crop": "the middle is cut out to the model's shape",
    "squash": "the whole picture, squeezed to the model's shape",
    "pad": "the whole picture, with bars where it does not fill the model's shape",
}


@dataclass(frozen=True)
class Views:
    """What makes the views of a run, as its trainer has it."""

    train: Manifest
    spec: Preprocessing
    config: TrainConfig
    imbalance: ImbalancePlan
    maker: ViewMaker

    def plan(self, epoch: int) -> EpochPlan:
        """Which pictures an epoch shows."""
        targets = self.train.targets()
        plan = plan_epoch(targets, self.imbalance, seed=self.config.seed, epoch=epoch)
        bounded = keeps_features(self.config.stages[0], self.config)
        views = self.config.feature_cache.views
        return with_bounded_views(plan, views, epoch) if bounded and views else plan

    def batches(self, epoch: int) -> TrainingBatches:
        """The training batches of an epoch, counted from 1."""
        return training_batches(
            self.train,
            self.maker,
            batch_size=self.config.batch_size,
            epoch=epoch,
            plan=self.plan(epoch),
        )

    @property
    def mixing_stages(self) -> tuple[str, ...]:
        """The stages in which pictures are mixed."""
        augment = self.config.augment
        return tuple(
            stage.name
            for stage in self.config.stages
            if stage.epochs and stage.mixing and (augment.mixup or augment.cutmix)
        )


def prepare_views(
    start: Start, manifest: Manifest, config: TrainConfig, listener: Listener
) -> Views:
    """Choose framing and sampling on the training part, as training does.

    Raises:
        ConfigError: the augmentation of rare classes cannot be used.
    """
    train, validation = manifest.part("train"), manifest.part("validation")

    def tell(text: str) -> None:
        listener(Note(text))

    chosen = choose_features(start, train, config, tell)
    config, spec = chosen.config, chosen.preprocessing
    imbalance = imbalance_plan(config, train)
    tell(imbalance.sentence())
    # With a cache, views are made of pictures that were reduced first: here as in training.
    cache = open_decode_cache(
        train.records,
        validation.records,
        spec,
        config.augment,
        config.loader,
        workers=loading_processes(torch.device(start.device)),
    )
    rare = build_rare_augmentation(imbalance, (spec.height, spec.width))
    maker = ViewMaker(train.records, spec, config.augment, config.seed, rare, cache)
    return Views(train, spec, config, imbalance, maker)


def sentences(views: Views) -> list[str]:
    """Framing, augmentation and sampling, in words."""
    spec, augment, mixing = views.spec, views.config.augment, views.mixing_stages
    said = [
        f"Framing: {spec.resize} to {spec.width} x {spec.height} px ({_FRAMING[spec.resize]}).",
        f"Augmentation, by chance and new in every epoch: {describe(augment)}.",
    ]
    if rare := describe_rare(views.imbalance):
        said.append(f"{rare[:1].upper()}{rare[1:]}.")
    if views.imbalance.uses("weighted-sampler"):
        said.append("Sampling: rare classes are drawn more often, some pictures several times.")
    if mixing and len(mixing) < sum(stage.epochs > 0 for stage in views.config.stages):
        said.append(f"Pictures are mixed in these stages only: {', '.join(mixing)}.")
    return said


def sections(views: Views, listener: Listener) -> list[Section]:
    """The first picture in several views, then the first batches of epoch 1."""
    space = views.train.label_space
    full = space.names
    names = drawable_names(short_names(full, taxonomy=space.is_taxonomy))
    for number, (name, shown) in enumerate(zip(full, names, strict=True), start=1):
        if shown == f"class {number}" != name:
            listener(Note(f"on the sheet, class {number} is '{name}'"))
    return [_one_picture(views, names), *_batches(views, names)]


def _one_picture(views: Views, names: Sequence[str]) -> Section:
    position = int(views.plan(1).positions[0])
    record, content = _record(views, position)
    whole = decode(content, views.spec, record.id)
    judged = prepare(content, views.spec, record.id).transpose(1, 2, 0)
    tiles = [
        Tile(whole, ("the file", f"{record.width} x {record.height} px")),
        Tile(Image.fromarray(judged), ("in evaluation", "no augmentation")),
    ]
    for epoch in range(1, _EPOCHS_TRIED):
        places = np.flatnonzero(views.plan(epoch).positions == position)
        if len(places):
            view = views.batches(epoch).view(int(places[0]))
            tiles.append(Tile(Image.fromarray(view), (f"in epoch {epoch}",)))
        if len(tiles) == COLUMNS:
            break
    labels = ", ".join(
        name for name, share in zip(names, _shares(views)[position], strict=True) if share
    )
    mixed = " Other pictures are mixed in after that, as below." if views.mixing_stages else ""
    return Section(
        "One picture, as the model meets it again and again",
        f"{record.id} ({labels or 'no tag'}).{mixed}",
        tuple(tiles),
    )


def _record(views: Views, position: int) -> tuple[Record, bytes]:
    record = views.train.records[position]
    return record, read_picture(record.path)


def _shares(views: Views) -> npt.NDArray[np.int64]:
    """0 or 1 for each training picture and class: int64 [N, C]."""
    targets, space = views.train.targets(), views.train.label_space
    return (
        targets if space.task == "multilabel" else np.eye(len(space.names), dtype=np.int64)[targets]
    )


def _batches(views: Views, names: Sequence[str]) -> list[Section]:
    """A section a batch, until there are enough pictures."""
    batches, extra = views.batches(1), views.plan(1).extra
    task, made, left = views.train.label_space.task, list[Section](), PICTURES
    for step, (batch, places) in enumerate(zip(batches, batches.places, strict=False), start=1):
        images, shares = _mixed(views, batch, step)
        size = len(images)
        tiles = [
            Tile(
                Image.fromarray(images[row]),
                _captions(shares[row], names, task, repeated=bool(extra[places[row]])),
            )
            for row in range(min(size, left))
        ]
        shown = "" if len(tiles) == size else f", the first {len(tiles)} of them"
        heading = (
            f"Batch {step} of {len(batches)} in epoch 1: {counted(size, 'picture', 'pictures')}"
        )
        made.append(
            Section(heading + shown, _how_to_read(views) if step == 1 else "", tuple(tiles))
        )
        left -= len(tiles)
        if left < COLUMNS:  # a few pictures of one more batch would say nothing new
            break
    return made


def _how_to_read(views: Views) -> str:
    several = views.train.label_space.task == "multilabel"
    if not views.mixing_stages:
        return f"In the order of training, each with its {'tags' if several else 'class'}."
    return (
        "In the order of training, each mixed with another one of its batch. Below it stands how "
        + (
            "much of each tag the model is told to see; all of it where no number stands."
            if several
            else "much of each class the model is told to see."
        )
    )


def _mixed(
    views: Views, batch: Batch, step: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """The pictures as the model takes them, uint8 [N, H, W, 3], and the share of each class,
    float32 [N, C]."""
    config, space = views.config, views.train.label_space
    off = AugmentConfig(mixup=0, cutmix=0)
    images, shares, _ = mix(
        # Training mixes after normalisation, which is linear: it makes the same pictures.
        batch.images.float(),
        batch.targets,
        batch.weights,
        len(space.names),
        config.augment if views.mixing_stages else off,
        mixing_generator(config.seed, 1, step),
        space.task,
    )
    pixels = images.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    return pixels.contiguous().numpy(), shares.numpy()


def _captions(
    shares: npt.NDArray[np.float32], names: Sequence[str], task: Task, *, repeated: bool
) -> tuple[str, ...]:
    """Lines under a picture: its classes, the largest share first, each on a line of its own;
    tags one after the other."""
    order = [place for place in np.argsort(-shares, kind="stable") if shares[place] >= _LEAST]
    words = [_caption(names[place], float(shares[place])) for place in order]
    if task == "multilabel":
        words = list(listed(words, MOST_LINES)) or ["(no tag)"]
    return (*words, "(repeated: rare)") if repeated else tuple(words)


def _caption(name: str, share: float) -> str:
    return name if share > 1 - _LEAST else f"{share:.0%} {name}"
