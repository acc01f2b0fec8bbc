"""The model folder in timm: the lines of the card give what the model gives."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from taxon.api.card import write_card
from taxon.bundle import read_bundle
from taxon.bundle.golden import write_golden_outputs
from taxon.bundle.layout import MANIFEST_FILE, Provenance
from taxon.bundle.write import seal, write_parts
from taxon.config import HeadKind, Pooling
from taxon.core.labels import LabelSpace
from taxon.core.predictions import Prediction
from taxon.data import Manifest, write_manifest
from taxon.decision import DecisionPolicy
from taxon.models.classifier import Classifier, Standardise, build_classifier
from taxon.models.restore import restore_classifier, save_classifier
from taxon.preprocessing import Preprocessing

SPACE = LabelSpace.flat("multiclass", ["a", "b", "c"])
NAME = 'my "first" model'
SIZE = 64


def _write_model(
    folder: Path,
    name: str,
    head: HeadKind = "mlp",
    pooling: Pooling = "last",
    weights: str | Path = "none",
) -> None:
    """A model folder around a network that nobody trained, whose every layer does something."""
    torch.manual_seed(0)
    built = build_classifier(
        3, name, weights=weights, head=head, pooling=pooling, input_size=(SIZE, SIZE)
    )
    for module in built.modules():
        if isinstance(module, Standardise):
            torch.nn.init.normal_(module.get_buffer("mean"))
            torch.nn.init.uniform_(module.get_buffer("factor"), 0.5, 2.0)
    spec = Preprocessing(height=SIZE, width=SIZE)
    folder.mkdir()
    save_classifier(folder, built, spec)
    write_parts(folder, SPACE, spec, DecisionPolicy.default(SPACE))
    (folder / "golden").mkdir()
    empty = np.zeros((0, 3), np.float32)
    write_golden_outputs(folder, np.zeros((0, 3, SIZE, SIZE), np.uint8), empty, empty)
    write_manifest(Manifest((), SPACE, Path("pictures")), folder / MANIFEST_FILE)
    provenance = Provenance(
        command="test",
        created="",
        seconds=0,
        device="cpu",
        config={},
        data_fingerprint="",
        weights={"source": "none"},
        versions={},
    )
    seal(
        folder,
        name=folder.name,
        backbone=built.spec.name,
        head=head,
        pooling=pooling,
        label_space=SPACE,
        provenance=provenance,
    )
    write_card(read_bundle(folder))


def _run_card(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Run the card's lines for timm as they stand there, from beside the model folder."""
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder.parent / "picture.jpg")
    monkeypatch.chdir(folder.parent)
    card = (folder / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", card[card.index("**With timm.**") :], re.DOTALL)
    assert len(blocks) == 2
    names: dict[str, torch.Tensor] = {}
    for block in blocks:
        exec(block, names)
    return names


def _require_equal(folder: Path, names: dict[str, torch.Tensor]) -> Classifier:
    """Features bit by bit; the head up to rounding, since safetensors lays its weights elsewhere
    in memory, where torch may multiply in another order."""
    ours = restore_classifier(read_bundle(folder))
    with torch.inference_mode():
        features, logits = ours.features(names["images"]), ours(names["images"])
    assert torch.equal(names["features"], features)
    torch.testing.assert_close(names["logits"], logits, rtol=1e-6, atol=1e-6)
    assert logits.std() > 1e-4
    return ours


@pytest.mark.parametrize("head", ["linear", "standardised", "mlp"])
@pytest.mark.parametrize("pooling", ["last", "blocks", "all"])
def test_lines_of_the_card_give_our_logits(
    head: HeadKind, pooling: Pooling, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / NAME
    _write_model(folder, "test_convnext", head, pooling)
    _require_equal(folder, _run_card(folder, monkeypatch))
    says_taxon = "that takes taxon's own layer" in (folder / "README.md").read_text()
    assert says_taxon == (pooling != "last")


@pytest.mark.parametrize(
    "name",
    [
        "test_convnext",
        "test_efficientnet.r160_in1k",
        "mobilenetv4_conv_small.e2400_r224_in1k",  # its pooled features are not its last block's
        "vit_tiny_patch16_224.augreg_in21k_ft_in1k",  # its input size is fixed when it is built
    ],
)
def test_backbones(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "model"
    _write_model(folder, name)
    ours = _require_equal(folder, _run_card(folder, monkeypatch))
    images = torch.randn(2, 3, SIZE, SIZE)
    with torch.inference_mode():
        features = ours.backbone(images)
        for options in ({}, {"num_classes": 0}):
            model = timm.create_model(f"local-dir:{folder}", pretrained=True, **options)
            assert torch.equal(model.eval()(images), features)
        model = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=7).eval()
        maps = model.forward_features(images)
        assert torch.equal(model.forward_head(maps, pre_logits=True), features)
        assert model(images).shape == (2, 7)


def test_published_weights(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = shared / "weights" / "tf_mobilenetv3_small_100" / "model.safetensors"
    folder = tmp_path / "model"
    _write_model(folder, "tf_mobilenetv3_small_100", "linear", weights=weights)
    _require_equal(folder, _run_card(folder, monkeypatch))


def test_a_trained_model(
    run: Path, tmp_path: Path, defects: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the lines for taxon run as they stand in the card."""
    (tmp_path / run.name).symlink_to(run)
    names = _run_card(tmp_path / run.name, monkeypatch)
    _require_equal(run, names)
    card = (run / "README.md").read_text()
    block = re.findall(r"```python\n(.*?)```", card, re.DOTALL)[0]
    said: list[Prediction] = []
    exec(block, {"print": said.append})
    assert said[0].error is None and said[0].top
