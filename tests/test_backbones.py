"""The charter's backbones: build, one training step, ONNX export, parity.

The small ones run in `make test`, the large ones in `make test-backbones`, at a reduced input
size where the architecture allows it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from taxon.bundle import read_bundle
from taxon.bundle.golden import write_golden_outputs
from taxon.bundle.layout import Provenance
from taxon.bundle.write import seal, write_parts
from taxon.core.labels import LabelSpace
from taxon.decision import DecisionPolicy
from taxon.exporters.onnx import write_onnx
from taxon.inference.onnx_runtime import OnnxRuntimeBackend
from taxon.inference.pytorch import PyTorchBackend
from taxon.models import Classifier, build_classifier
from taxon.models.backbones import train_mode
from taxon.models.restore import save_classifier
from taxon.models.zoo import ZOO
from taxon.preprocessing import Preprocessing

# The MobileNetV3 of test_end_to_end.py goes the whole way there.
SMALL = {"yolo11n-cls": 64}
LARGE = {
    "mobilenetv3_small_100": 64,
    "efficientnet_lite0": 64,
    "mobilenetv4_conv_small": 64,
    "mobilenetv3_large_100": 64,
    "efficientnet_b0": 64,
    "efficientnet_b4": 96,
    "efficientnet_b7": 128,
    "convnext_tiny": 64,
    "vit_base_patch16_224": 224,
    "mobilenetv4_conv_medium": 64,
    "mobilenetv4_conv_large": 96,
    "efficientnet_lite1": 64,
    "efficientnet_lite2": 64,
    "efficientnet_lite3": 96,
    "efficientnet_lite4": 96,
    "yolo11s-cls": 64,
    "yolo11m-cls": 64,
    "yolo11l-cls": 64,
    "yolo11x-cls": 64,
}
SPACE = LabelSpace.flat("multiclass", ["a", "b", "c"])


def _batch(count: int, size: int, seed: int) -> np.ndarray:
    """Random pictures with structure: flat noise alone would leave deep features constant."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 3, 8, 8))
    return np.kron(coarse, np.ones((1, 1, size // 8, size // 8))).astype(np.uint8)


def _train_one_step(classifier: Classifier, size: int) -> None:
    """One step; batch norm first sees a few batches, or features of random weights vanish."""
    train_mode(classifier)
    images = torch.from_numpy(_batch(8, size, seed=0)).float() / 127.5 - 1
    with torch.no_grad():
        for _ in range(20):
            classifier(images)
    optimiser = torch.optim.AdamW(classifier.parameters(), lr=1e-3)
    before = [parameter.detach().clone() for parameter in classifier.parameters()]
    loss = torch.nn.functional.cross_entropy(classifier(images), torch.arange(8) % 3)
    loss.backward()
    optimiser.step()
    after = list(classifier.parameters())
    assert all(not torch.equal(old, new) for old, new in zip(before, after, strict=True))


def _write_bundle(classifier: Classifier, size: int, folder: Path) -> None:
    spec = Preprocessing(height=size, width=size)
    policy = DecisionPolicy.default(SPACE)
    save_classifier(folder, classifier, spec)
    write_parts(folder, SPACE, spec, policy)
    (folder / "golden").mkdir()
    empty = np.zeros((0, 3), np.float32)
    write_golden_outputs(folder, np.zeros((0, 3, size, size), np.uint8), empty, empty)
    provenance = Provenance(
        command="test",
        created="",
        seconds=0,
        device="cpu",
        config={},
        data_fingerprint="",
        weights={},
        versions={},
    )
    backbone = classifier.spec.name
    seal(
        folder,
        name="test",
        backbone=backbone,
        head="mlp",
        pooling="last",
        label_space=SPACE,
        provenance=provenance,
    )


def test_every_known_backbone_is_tried() -> None:
    assert {*SMALL, *LARGE} == {entry.name for entry in ZOO}


@pytest.mark.parametrize(
    ("name", "size"),
    [
        *SMALL.items(),
        *(pytest.param(name, size, marks=pytest.mark.slow) for name, size in LARGE.items()),
    ],
)
def test_build_train_export_and_compare(name: str, size: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    classifier = build_classifier(3, name, weights="none", input_size=(size, size))
    _train_one_step(classifier, size)
    _write_bundle(classifier, size, tmp_path)

    bundle = read_bundle(tmp_path)
    images = _batch(5, size, seed=1)
    expected = PyTorchBackend(bundle).run(images)
    actual = OnnxRuntimeBackend(write_onnx(bundle, tmp_path)).run(images)
    # Relative to the spread of the logits: an absolute tolerance proves nothing on small ones.
    spread = float(expected.logits.std())
    assert spread > 1e-3
    assert np.abs(actual.logits - expected.logits).max() < 1e-3 * spread
    assert np.abs(actual.probabilities - expected.probabilities).max() < 1e-4
