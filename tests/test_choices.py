"""What recipe `auto` chooses on the training part, and why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import exports_left_out
from other_device import on_other_device
from PIL import Image
from runs import require_same_run

import taxon
from taxon.api.fine_tuning import imbalance_plan
from taxon.bundle import read_bundle
from taxon.config import Pooling, TrainConfig, load_config
from taxon.core.errors import ConfigError
from taxon.core.predictions import FloatArray
from taxon.data import Manifest, load_manifest
from taxon.models.backbones import Backbone, create_backbone, preprocessing_of
from taxon.models.features import extract_features
from taxon.preprocessing import Preprocessing
from taxon.training import Event, Note
from taxon.training.candidates import Candidate, Probes
from taxon.training.choices import choose_pooling, choose_size, poolings
from taxon.training.device import build_accelerator
from taxon.training.trial import hold_trial

KINDS: tuple[Pooling, ...] = ("blocks", "last", "all")


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return create_backbone("test_convnext")


@pytest.fixture(scope="module")
def manifest(defects: Path) -> Manifest:
    return load_manifest(defects)


def _spec(backbone: Backbone, side: int = 32) -> Preprocessing:
    return preprocessing_of(backbone.settings).model_copy(update={"height": side, "width": side})


class _Known(Probes):
    """Probes that name so many of the pictures right: by candidate, of 100."""

    def __init__(self, backbone: Backbone, train: Manifest, right: dict[Candidate, int]) -> None:
        super().__init__(backbone, train, seed=0, device="cpu", poolings=KINDS)
        self.right = right

    def probabilities(self, candidate: Candidate) -> FloatArray:
        classes = len(self.sample.label_space.names)
        order = np.random.default_rng(1).permutation(len(self.targets))
        named = np.where(
            order < len(order) * self.right[candidate] / 100,
            self.targets,
            (self.targets + 1) % classes,
        )
        return (0.02 + 0.9 * np.eye(classes)[named]).astype(np.float32)


def test_one_pass_gives_all_kinds_of_features(backbone: Backbone, manifest: Manifest) -> None:
    few = replace(manifest, records=manifest.records[:12])
    probes = Probes(backbone, few, seed=0, device="cpu", poolings=KINDS)
    spec = _spec(backbone)
    for kind in KINDS:
        alone = extract_features(backbone, few.records, spec, pooling=kind)
        assert np.allclose(probes.features(Candidate(spec, kind)), alone, atol=1e-5), kind


@pytest.mark.parametrize(
    ("right", "kept"),
    [((80, 81, 80), "blocks"), ((60, 95, 60), "last"), ((60, 61, 95), "all")],
)
def test_the_usual_features_stay_unless_others_are_surely_better(
    backbone: Backbone, manifest: Manifest, right: tuple[int, ...], kept: str
) -> None:
    spec = _spec(backbone)
    scores = {Candidate(spec, kind): value for kind, value in zip(KINDS, right, strict=True)}
    chosen, reason = choose_pooling(_Known(backbone, manifest, scores), spec)
    assert chosen == kept
    assert "macro-F1 of a probe on 180 training pictures" in reason
    assert ("not surely worse" in reason) == (right == (80, 81, 80))


def test_networks_without_blocks_or_with_too_many_features_give_the_last_ones() -> None:
    assert poolings(create_backbone("test_convnext")) == list(KINDS)
    assert poolings(create_backbone("test_vit", input_size=(32, 32)))[0] in KINDS


def test_a_larger_input_is_taken_where_the_pictures_have_the_pixels_and_it_pays(
    backbone: Backbone, manifest: Manifest
) -> None:
    small, larger, largest = (_spec(backbone, side) for side in (32, 64, 96))
    scores = {Candidate(small, "last"): 60, Candidate(larger, "last"): 95}
    scores |= {Candidate(largest, "last"): 100}
    probes = _Known(backbone, manifest, scores)  # pictures of 64 px
    chosen, reason = choose_size(probes, small, "last")
    assert (chosen.height, chosen.width) == (32, 32)
    assert "as the weights have it" in reason or "32 px" in reason
    chosen, reason = choose_size(probes, larger, "last")
    assert chosen == larger and "most pictures are smaller than 96 px" in reason


def test_an_input_size_that_the_architecture_fixes_stays(manifest: Manifest) -> None:
    vit = create_backbone("test_vit", input_size=(160, 160))
    probes = _Known(vit, manifest, {})
    chosen, reason = choose_size(probes, _spec(vit, 160), "last")
    assert chosen.height == 160 and reason


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Pictures of four colours, easily told by a network that trains."""
    folder, rng = tmp_path_factory.mktemp("colours"), np.random.default_rng(0)
    for position in range(80):
        pixels = rng.integers(0, 120, (32, 32, 3), dtype=np.uint8)
        pixels[..., position % 4 : position % 4 + 1] += 120
        path = folder / ("red", "green", "blue", "none")[position % 4] / f"{position}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
    return load_manifest(folder)


@pytest.mark.parametrize(("learning_rate", "pays"), [(4e-3, True), (1e-9, False)])
def test_a_trial_finds_out_whether_training_the_backbone_pays(
    colours: Manifest, learning_rate: float, pays: bool
) -> None:
    torch.manual_seed(0)
    backbone = create_backbone("test_convnext")
    before = {name: value.clone() for name, value in backbone.module.state_dict().items()}
    useless = f"{{name: head, epochs: {int(not pays)}, learning_rate: 1.0e-9}}"  # 0: none at all
    tried = f"{{name: all, epochs: {40 if pays else 4}, unfrozen_blocks: all, "
    tried += f"learning_rate: {learning_rate}, trial: true}}"
    config = load_config("scratch", overrides=[f"stages=[{useless}, {tried}]", "batch_size=8"])
    trial = hold_trial(
        backbone,
        colours,
        _spec(backbone),
        config,
        build_accelerator("cpu", config),
        lambda part: imbalance_plan(config, part),
    )
    assert trial.pays is pays
    assert "32 training pictures that a trial on 48 others did not see" in trial.reason
    after = backbone.module.state_dict()
    assert all(after[name].equal(value) for name, value in before.items())


def test_stages_on_trial_come_last() -> None:
    with pytest.raises(ConfigError, match="stages on trial come last"):
        load_config("finetune", overrides=["stages=[{name: a, unfrozen_blocks: all, trial: true}]"])
    with pytest.raises(ConfigError, match="stages on trial come last"):
        load_config("staged", overrides=["stages.1.trial=true"])
    with pytest.raises(ConfigError, match="blocks of the backbone train"):
        load_config("staged", overrides=["stages.0.trial=true"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter:UserWarning")
def test_auto_leaves_nothing_open_says_why_and_is_the_same_on_another_device(
    run: Path, few: Path, tmp_path: Path
) -> None:
    told: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Note):
            told.append(event.text)

    def train(name: str) -> taxon.Model:
        return taxon.train(
            few,
            out=tmp_path / name,
            model="test_convnext",
            weights=run / "model.safetensors",
            epochs=2,
            overrides=["preprocessing.size=32"],
            listener=listen,
        )

    model = train("run")
    provenance = read_bundle(model.path).info.provenance
    config = TrainConfig.model_validate(provenance.config)
    assert config.recipe == "auto"
    assert config.chosen_pooling in KINDS
    assert config.preprocessing.resize != "auto" and config.preprocessing.size == 32
    assert not any(stage.trial for stage in config.stages)
    said = "\n".join(told)
    for words in ("framing: ", "features: ", "training blocks of the backbone "):
        assert words in said and any(note.startswith(words) for note in provenance.notes)
    trained = [row["stage"] for row in provenance.history]
    assert trained == [stage.name for stage in config.stages for _ in range(stage.epochs)]
    with exports_left_out(), on_other_device():
        elsewhere = train("elsewhere")
    require_same_run(elsewhere.path, model.path)


def test_auto_takes_scratch_without_weights_and_steps_with_a_teacher(tmp_path: Path) -> None:
    from taxon.api.settings import training_settings

    assert training_settings().recipe == "auto"
    assert training_settings(recipe="auto", weights="none").recipe == "scratch"
    assert training_settings(teacher=tmp_path).recipe == "staged"
