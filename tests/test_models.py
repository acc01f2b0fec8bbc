"""Backbones, heads, blocks and weights, through timm's real architectures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from taxon.core.errors import ConfigError, WeightsError
from taxon.models import build_classifier
from taxon.models.backbones import (
    blocks,
    create_backbone,
    freeze_all_but_last,
    preprocessing_of,
    train_mode,
)
from taxon.models.classifier import Normalise
from taxon.models.weights import load_pretrained
from taxon.models.zoo import ZOO, ZooEntry, default_backbone, find, resolve

FROM_TIMM = [entry for entry in ZOO if entry.source == "timm"]
FAMILIES = {
    "efficientnet_b0": 1280,
    "mobilenetv3_large_100": 1280,
    "mobilenetv3_small_100": 1024,
    "efficientnet_lite0": 1280,
    "test_convnext": 64,
    "test_vit": 64,
}


def _pictures(count: int = 2, size: int = 64) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("name", "features"), FAMILIES.items())
def test_head_is_in_the_path_and_gets_a_gradient(name: str, features: int) -> None:
    size = (64, 64)
    classifier = build_classifier(3, name, weights="none", input_size=size)
    first = classifier.head[0]
    assert isinstance(first, nn.Linear) and first.in_features == features
    logits = classifier(_pictures())
    assert logits.shape == (2, 3)
    logits.square().sum().backward()
    for parameter in classifier.head.parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0
    with torch.no_grad():
        last = classifier.head[-1]
        last.weight.zero_()
        last.bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
    assert torch.equal(classifier(_pictures()), torch.tensor([[1.0, 2.0, 3.0]] * 2))


def test_build_classifier_has_the_charters_head_on_b4() -> None:
    classifier = build_classifier(7, pretrained_model="efficientnet_b4", weights="none")
    kinds = [type(layer) for layer in classifier.head]
    assert kinds == [nn.Linear, nn.GELU, nn.Dropout, nn.Linear]
    assert (classifier.head[0].in_features, classifier.head[0].out_features) == (1792, 512)
    assert classifier.head[2].p == 0.3
    assert (classifier.head[3].in_features, classifier.head[3].out_features) == (512, 7)


def test_setting_model_classifier_as_tutorials_do_is_ignored_by_vit_and_convnext() -> None:
    for name in ("test_vit", "test_convnext"):
        model = timm.create_model(name, num_classes=5).eval()
        size = model.default_cfg["input_size"][-1]
        model.classifier = nn.Linear(64, 3)
        assert model(_pictures(size=size)).shape == (2, 5)  # ours is [2, 3], see above


def test_linear_head() -> None:
    classifier = build_classifier(4, "test_convnext", weights="none", head="linear")
    assert isinstance(classifier.head, nn.Linear) and classifier.head.out_features == 4


BLOCKS = {
    # family: number of blocks, first parameter of the last two, first trainable stem-side one
    "efficientnet_b0": (7, "blocks.5.", "blocks.6."),
    "mobilenetv3_large_100": (7, "blocks.5.", "blocks.6."),
    "mobilenetv3_small_100": (6, "blocks.4.", "blocks.5."),
    "efficientnet_lite0": (7, "blocks.5.", "blocks.6."),
    "convnext_tiny": (4, "stages.2.", "stages.3."),
    "vit_base_patch16_224": (12, "blocks.10.", "blocks.11."),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_last_two_blocks_of_every_family(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    count, before_last, last = BLOCKS[name]
    with torch.device("meta"):
        backbone = create_backbone(name)
    groups = blocks(backbone)
    assert len(groups) == count + 1  # the stem comes first
    assert groups[-2][0].startswith(before_last) and groups[-1][0].startswith(last)
    names = [parameter for group in groups for parameter in group]
    assert sorted(names) == sorted(name for name, _ in backbone.module.named_parameters())

    trainable = freeze_all_but_last(backbone, 2)
    assert sorted(trainable) == sorted([*groups[-2], *groups[-1]])
    numbers = {
        flag: sum(p.numel() for p in backbone.module.parameters() if p.requires_grad is flag)
        for flag in (True, False)
    }
    assert numbers[True] > 0 and numbers[False] > 0
    with capsys.disabled():
        print(f"\n{name}: last 2 blocks train {numbers[True]:,}, frozen {numbers[False]:,}")
    assert freeze_all_but_last(backbone, 0) == []
    assert len(freeze_all_but_last(backbone, None)) == len(names)


@pytest.mark.parametrize("unfrozen", [0, 2])
def test_frozen_batch_norm_keeps_its_statistics(unfrozen: int) -> None:
    backbone = create_backbone("mobilenetv3_small_050")
    trainable = set(freeze_all_but_last(backbone, unfrozen))
    before = {key: value.clone() for key, value in backbone.module.state_dict().items()}
    train_mode(backbone.module)
    backbone.module(_pictures(8))
    changed = {
        key.removesuffix(".running_mean")
        for key, value in backbone.module.state_dict().items()
        if key.endswith("running_mean") and not torch.equal(value, before[key])
    }
    expected = {
        key.removesuffix(".running_mean")
        for key in before
        if key.endswith("running_mean") and key.replace("running_mean", "weight") in trainable
    }
    assert changed == expected
    assert bool(expected) == (unfrozen > 0)


def test_charter_names_resolve_to_weights_that_timm_has() -> None:
    for entry in FROM_TIMM:
        config = timm.get_pretrained_cfg(resolve(entry.name))
        assert config is not None and config.hf_hub_id == f"timm/{entry.weights}"
        assert config.license == entry.licence
        assert config.input_size[-1] == entry.input_size
    assert resolve("efficientnet_b7") == "tf_efficientnet_b7.aa_in1k"
    assert resolve("resnet18") == "resnet18"


@pytest.mark.parametrize("entry", FROM_TIMM, ids=lambda entry: entry.name)
def test_published_parameters_are_those_of_the_architecture(entry: ZooEntry) -> None:
    found = find(entry.name)
    assert found is not None
    with torch.device("meta"):
        model = timm.create_model(found.weights, num_classes=1000)
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert round(millions, 2) == found.parameters


def test_default_backbone_depends_on_the_device() -> None:
    assert default_backbone("cpu", pretrained=True)[0] == "mobilenetv3_large_100"
    assert default_backbone("cuda", pretrained=True)[0] == "convnext_tiny"


def test_preprocessing_comes_from_the_weights_configuration() -> None:
    spec = preprocessing_of(create_backbone("tf_mobilenetv3_small_100").settings)
    assert spec.mean == (0.5, 0.5, 0.5) and spec.interpolation == "bilinear"
    assert (spec.height, spec.width, spec.crop_fraction) == (224, 224, 0.875)


def test_unknown_backbone_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="efficientnet_b0"):
        create_backbone("eficientnet_b0")


def test_hub_that_cannot_be_reached_names_the_ways_out() -> None:
    with pytest.raises(WeightsError, match=r"--weights FILE.*--weights none"):
        load_pretrained(create_backbone("mobilenetv3_small_100"), "hub")


class TestWeightsFromAFile:
    @staticmethod
    def _full_state(name: str = "test_convnext") -> dict[str, torch.Tensor]:
        return {key: value.clone() for key, value in timm.create_model(name).state_dict().items()}

    def test_all_but_the_classifier_is_loaded(self, tmp_path: Path) -> None:
        state = self._full_state()
        save_file(state, tmp_path / "model.safetensors")
        backbone, origin = load_pretrained(
            create_backbone("test_convnext"), tmp_path / "model.safetensors"
        )
        for key, value in backbone.module.state_dict().items():
            assert torch.equal(value, state[key])
        assert len(origin["sha256"]) == 64

    def test_plain_state_dict_in_pth(self, tmp_path: Path) -> None:
        torch.save({"state_dict": self._full_state()}, tmp_path / "model.pth")
        load_pretrained(create_backbone("test_convnext"), tmp_path / "model.pth")

    def test_pickled_code_is_never_run(self, tmp_path: Path) -> None:
        torch.save(nn.Linear(2, 2), tmp_path / "model.pth")  # a whole module: pickled code
        with pytest.raises(WeightsError, match="cannot be read as weights"):
            load_pretrained(create_backbone("test_convnext"), tmp_path / "model.pth")

    def test_missing_unknown_and_misshapen_keys_are_named(self, tmp_path: Path) -> None:
        state = self._full_state()
        del state["stem.0.bias"]
        state["surprise"] = torch.zeros(1)
        state["stem.0.weight"] = torch.zeros(1, 2)
        save_file(state, tmp_path / "model.safetensors")
        with pytest.raises(WeightsError) as raised:
            load_pretrained(create_backbone("test_convnext"), tmp_path / "model.safetensors")
        for part in ("missing: stem.0.bias", "unknown: surprise", r"stem.0.weight (has [1, 2]"):
            assert part in str(raised.value)

    def test_other_architectures_weights_are_refused(self, tmp_path: Path) -> None:
        save_file(self._full_state("test_vit"), tmp_path / "model.safetensors")
        with pytest.raises(WeightsError, match="does not fit test_convnext"):
            load_pretrained(create_backbone("test_convnext"), tmp_path / "model.safetensors")

    @pytest.mark.parametrize("content", [b"", b"not safetensors at all"])
    def test_damaged_file(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "model.safetensors").write_bytes(content)
        with pytest.raises(WeightsError, match="cannot be read as weights"):
            load_pretrained(create_backbone("test_convnext"), tmp_path / "model.safetensors")

    def test_absent_file(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match="no such weights file"):
            load_pretrained(create_backbone("test_convnext"), tmp_path / "none.safetensors")

    def test_configuration_beside_the_file_wins(self, tmp_path: Path) -> None:
        save_file(self._full_state(), tmp_path / "model.safetensors")
        settings = {"mean": [0.1, 0.2, 0.3], "input_size": [3, 96, 96], "license": "mit"}
        (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": settings}))
        backbone, origin = load_pretrained(
            create_backbone("test_convnext"), tmp_path / "model.safetensors"
        )
        spec = preprocessing_of(backbone.settings)
        assert spec.mean == (0.1, 0.2, 0.3) and spec.height == 96
        assert origin["licence"] == "mit"


def test_normalise_is_what_timm_trains_with() -> None:
    images = torch.arange(256, dtype=torch.uint8).repeat(3).reshape(1, 3, 16, 16)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = (images.numpy() / 255 - np.reshape(mean, (1, 3, 1, 1))) / np.reshape(
        std, (1, 3, 1, 1)
    )
    np.testing.assert_allclose(Normalise(mean, std)(images).numpy(), expected, atol=1e-6)
