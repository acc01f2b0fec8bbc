"""What frozen blocks make of views is computed once, and nothing else changes by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY_BACKBONE
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

import taxon
from taxon.config import ImbalanceConfig
from taxon.data.imbalance import choose
from taxon.data.loading.sampling import may_repeat, plan_epoch, with_bounded_views
from taxon.models.backbones import create_backbone
from taxon.models.cut import Segment, cut
from taxon.models.pooling import build_features
from taxon.training import Event, Note, frozen
from taxon.training.feature_store import FeatureStore

pytestmark = pytest.mark.usefixtures("without_export")

STAGES = (
    "stages=[{name: head, epochs: 3, unfrozen_blocks: 0, learning_rate: 0.003}, "
    "{name: last, epochs: 3, unfrozen_blocks: 1, learning_rate: 0.003}]"
)


def _train(data: Path, run: Path, *overrides: str, **options: Any) -> tuple[dict[str, Any], str]:
    notes: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Note):
            notes.append(event.text)

    common = {"model": TINY_BACKBONE, "weights": "none", "recipe": "scratch", "batch_size": 16}
    model = taxon.train(
        data,
        out=run,
        overrides=["preprocessing.size=32", STAGES, *overrides],
        listener=listen,
        **(common | options),
    )
    parts = [load_file(model.path / name) for name in ("model.safetensors", "head.safetensors")]
    return {f"{n}{name}": v for n, part in enumerate(parts) for name, v in part.items()}, "\n".join(
        notes
    )


@pytest.mark.parametrize(
    ("imbalance", "pooling"),
    [
        ("weighted-sampler", "blocks"),
        pytest.param("none", "blocks", marks=pytest.mark.slow),
        pytest.param("oversample", "last", marks=pytest.mark.slow),
    ],
)
def test_training_on_kept_features_is_training_on_those_views(
    imbalance: str,
    pooling: str,
    few: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = {"imbalance": imbalance}
    overrides = [f"pooling={pooling}", "feature_cache.views=2"]
    kept, notes = _train(few, tmp_path / "kept", *overrides, **options)
    assert "computed once for 2 views" in notes
    monkeypatch.setattr(frozen, "cut", lambda *arguments: None)
    again, notes = _train(few, tmp_path / "again", *overrides, **options)
    assert "cannot be divided" in notes
    assert kept.keys() == again.keys()
    for name, value in kept.items():
        torch.testing.assert_close(value, again[name], rtol=1e-3, atol=1e-4, msg=name)
    # Views that are new in each epoch make another model: the two above are not equal anyway.
    overrides[1] = "feature_cache.views=0"
    fresh, _ = _train(few, tmp_path / "fresh", *overrides, **options)
    close = [torch.allclose(fresh[name], v, rtol=1e-3, atol=1e-4) for name, v in kept.items()]
    assert not all(close)


def test_features_on_disk_are_those_in_memory(few: Path, tmp_path: Path) -> None:
    in_memory, notes = _train(few, tmp_path / "memory")
    assert "kept in memory" in notes
    on_disk, notes = _train(few, tmp_path / "disk", "feature_cache.gigabytes=0")
    assert "kept in /" in notes
    assert all(torch.equal(value, on_disk[name]) for name, value in in_memory.items())
    folder = next(word for word in notes.split() if word.endswith("features,")).rstrip(",")
    assert not list(Path(folder).iterdir())


def test_mixed_pictures_are_not_kept(few: Path, tmp_path: Path) -> None:
    _, notes = _train(few, tmp_path / "run", "augment.mixup=0.2")
    assert "computed once" not in notes


def test_features_are_built_where_the_backbone_is() -> None:
    """Probes leave it on the GPU; the device `meta` computes shapes alone, on any machine."""
    backbone = create_backbone("test_efficientnet")
    _, size = build_features(backbone, "all")
    backbone.module.to("meta")
    assert build_features(backbone, "all")[1] == size


@pytest.mark.parametrize(
    "name",
    [
        "test_efficientnet",
        "test_convnext",
        "mobilenetv3_small_100",
        "efficientnet_lite0",
        "resnet18",
        "vit_tiny_patch16_224",
        "swin_tiny_patch4_window7_224",
    ],
)
@pytest.mark.parametrize("pooling", ["last", "blocks", "all"])
def test_segments_compute_what_the_network_computes(name: str, pooling: str) -> None:
    torch.manual_seed(0)
    backbone = create_backbone(name)
    features, size = build_features(backbone, pooling)  # type: ignore[arg-type]
    height, width = backbone.settings["input_size"][1:]
    images = torch.randn(3, 3, height, width)
    segments = cut(backbone, features, (2, 1), images)
    if name.startswith("vit") and pooling != "last":
        # Numbers that are no tensors (the size of the grid) cross the border: not cut.
        assert segments is None
        return
    assert segments is not None and len(segments) == 3
    features.eval()
    with torch.no_grad():
        tensors: tuple[torch.Tensor, ...] = (images,)
        for segment in segments:
            tensors = segment(*tensors)
        expected = features(images)
    assert expected.shape == (3, size)
    torch.testing.assert_close(tensors[0], expected)
    last = segments[2]
    frozen_names = {id(p) for s in segments[:2] for p in s.parameters()}
    assert not any(id(p) in frozen_names for p in last.parameters())


def test_a_network_whose_code_looks_at_values_is_not_cut() -> None:
    backbone = create_backbone("test_efficientnet")

    class Looks(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = backbone.module

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            features = self.network(images)
            return features if features.sum() > 0 else -features

    assert cut(backbone, Looks(), (2,), torch.randn(2, 3, 160, 160)) is None
    whole = cut(backbone, Looks(), (0,), torch.randn(2, 3, 160, 160))
    assert whole is not None and isinstance(whole[0], Segment)


def test_a_network_that_is_not_cut_still_gets_its_head_solved_for(
    few: Path, tmp_path: Path
) -> None:
    stages = "stages=[{name: head, method: logistic}, {name: last, epochs: 1, unfrozen_blocks: 1}]"
    options = {"model": "test_vit", "recipe": "probe"}
    overrides = [stages, "preprocessing.size=160", "loader.cache=none"]
    _, notes = _train(few, tmp_path / "run", *overrides, **options)
    assert "head solved for" in notes and "cannot be divided" in notes


def test_features_for_which_there_is_no_room(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen, "choose_place", lambda *arguments: (False, None, "nowhere: full"))
    with pytest.raises(taxon.InputError, match=r"can be kept nowhere: full; free some disk"):
        _train(few, tmp_path / "run", "stages=[{name: head, method: logistic}]", recipe="probe")
    _, notes = _train(few, tmp_path / "run", "stages.1.epochs=0")
    assert "are not kept: nowhere: full" in notes


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_the_store_returns_what_was_put(data: st.DataObject) -> None:
    pictures = data.draw(st.integers(1, 12))
    views = data.draw(st.lists(st.integers(-2, 9), min_size=1, max_size=4, unique=True))
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    truth = {
        view: (
            torch.from_numpy(rng.random((pictures, 3, 2, 2))),
            torch.arange(pictures) + 100 * view,
        )
        for view in views
    }
    store = FeatureStore(truth[views[0]], pictures, None)
    for view, (maps, rows) in truth.items():
        positions = rng.permutation(pictures)
        writer = store.add(view, positions)
        assert view not in store
        for start in range(0, pictures, 5):
            chosen = positions[start : start + 5]
            writer.append((maps[chosen], rows[chosen]))
        writer.finish()
        assert view in store
    asked = data.draw(
        st.lists(st.tuples(st.sampled_from(views), st.integers(0, pictures - 1)), min_size=1)
    )
    maps, rows = store.rows(np.array([v for v, _ in asked]), np.array([p for _, p in asked]))
    for place, (view, position) in enumerate(asked):
        assert torch.equal(maps[place], truth[view][0][position])
        assert rows[place] == truth[view][1][position]


def test_a_killed_run_leaves_no_features_on_the_disk(tmp_path: Path) -> None:
    truth = torch.arange(12.0).view(4, 3)
    store = FeatureStore((truth,), 4, tmp_path)
    writer = store.add(0, np.arange(4))
    writer.append((truth,))
    writer.finish()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert torch.equal(store.rows(np.zeros(4, np.int64), np.arange(4))[0], truth)


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(1, 20), min_size=2, max_size=4),
    views=st.integers(1, 5),
    epoch=st.integers(1, 9),
    strategy=st.sampled_from(["none", "oversample", "weighted-sampler"]),
)
def test_bounded_views_take_turns(counts: list[int], views: int, epoch: int, strategy: str) -> None:
    targets = np.repeat(np.arange(len(counts)), counts)
    names = {str(position): count for position, count in enumerate(counts)}
    config = ImbalanceConfig(strategy=(strategy,))  # type: ignore[arg-type]
    plan = choose(config, names, "multiclass", pictures=len(targets))
    shown = with_bounded_views(plan_epoch(targets, plan, seed=0, epoch=epoch), views, epoch)
    assert shown.views is not None
    assert ((shown.views >= views) == shown.extra).all()
    repeatable = may_repeat(targets, plan)
    assert repeatable[shown.positions[shown.extra]].all()
    for position in np.unique(shown.positions):
        mine = (shown.positions == position) & ~shown.extra
        seen = np.bincount(shown.views[mine], minlength=views)
        assert seen.max() - seen.min() <= 1
        if mine.sum() == 1:
            assert shown.views[mine][0] == (epoch - 1) % views
