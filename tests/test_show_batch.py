"""--show-batch: the sheet shows exactly what training would take, and trains nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from conftest import TINY_BACKBONE
from hypothesis import given
from hypothesis import strategies as st
from pictures import encode, plain
from PIL import Image, ImageFont

import taxon
from taxon.api import previewing
from taxon.api.batch_sheet import (
    GAP,
    MARGIN,
    TILE,
    Section,
    Tile,
    draw_sheet,
    drawable,
    drawable_names,
    listed,
    shortened,
)
from taxon.cli.main import run as run_cli
from taxon.core.errors import ConfigError, OutputError
from taxon.models import Classifier
from taxon.preprocessing import Preprocessing, prepare
from taxon.training import Event, Loading, Note, StageStarted

SIZE = 56  # a third of a tile: on the sheet each pixel of the model is 3 x 3
SETTINGS = [f"preprocessing.size={SIZE}", "preprocessing.resize=squash"]
STILL = ["augment.crop_scale=1", "augment.crop_ratio=1", "augment.horizontal_flip=0"]
STILL += ["augment.colour=0", "loader.cache=none"]


class Shown:
    """What was drawn, and what was heard."""

    def __init__(self) -> None:
        self.title = ""
        self.sentences: Sequence[str] = ()
        self.sections: Sequence[Section] = ()
        self.events: list[Event] = []

    def pixels(self, section: int) -> npt.NDArray[np.int64]:
        """int64 [N, H, W, 3]."""
        return np.stack([np.asarray(tile.image) for tile in self.sections[section].tiles]).astype(
            np.int64
        )


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    """What `show_batch` draws, kept before it becomes pixels."""
    kept = Shown()

    def keep(title: str, sentences: Sequence[str], sections: Sequence[Section]) -> Image.Image:
        kept.title, kept.sentences, kept.sections = title, sentences, sections
        return draw_sheet(title, sentences, sections)

    monkeypatch.setattr(previewing, "draw_sheet", keep)
    return kept


def _show(
    data: Path, out: Path, *overrides: str, shown: Shown | None = None, **options: Any
) -> Path:
    return taxon.show_batch(
        data,
        out,
        model=TINY_BACKBONE,
        weights="none",
        overrides=[*SETTINGS, *overrides],
        listener=shown.events.append if shown is not None else lambda event: None,
        **options,
    )


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["augment.mixup=0.4", "augment.cutmix=1"],
        ["imbalance.strategy=oversample"],
        ["imbalance.strategy=weighted-sampler", "augment.policy=trivial", "batch_size=12"],
    ],
    ids=["plain", "mixed", "oversampled", "sampled"],
)
@pytest.mark.usefixtures("without_export")
def test_the_sheet_shows_what_the_model_is_trained_with(
    defects: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shown: Shown,
    overrides: list[str],
) -> None:
    taken: list[torch.Tensor] = []
    forward = Classifier.forward

    def record(self: Classifier, images: torch.Tensor) -> torch.Tensor:
        if self.training:
            taken.append(images.detach().clone())
        return forward(self, images)

    monkeypatch.setattr(Classifier, "forward", record)
    model = taxon.train(
        defects,
        out=tmp_path / "run",
        model=TINY_BACKBONE,
        weights="none",
        epochs=1,
        overrides=[*SETTINGS, *overrides],
    )
    _show(defects, tmp_path / "sheet.png", *overrides, shown=shown)
    spec = model.spec.preprocessing
    mean, std = (torch.tensor(values).view(3, 1, 1) * 255 for values in (spec.mean, spec.std))
    batches = [(images.float() * std + mean).permute(0, 2, 3, 1).numpy() for images in taken]
    for section in range(1, len(shown.sections)):
        pixels = shown.pixels(section)
        assert any(
            np.abs(images[: len(pixels)] - pixels).max() < 0.51
            for images in batches
            if len(images) >= len(pixels)
        ), shown.sections[section].heading


def test_the_png_holds_the_pictures_pixel_by_pixel(
    defects: Path, tmp_path: Path, shown: Shown
) -> None:
    _show(defects, tmp_path / "sheet.png", shown=shown)
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.mode == "RGB"  # opaque: as legible in a dark viewer
        sheet = np.asarray(image)
    wanted, left = shown.pixels(1)[3], MARGIN + 3 * (TILE + GAP)
    column = sheet[:, left : left + TILE : 3]
    rows = range(0, len(column) - TILE)
    assert sum((column[row : row + TILE : 3] == wanted).all() for row in rows) >= 1


def test_captions_are_the_classes_of_the_pictures(
    defects: Path, tmp_path: Path, shown: Shown
) -> None:
    _show(defects, tmp_path / "sheet.png", *STILL, shown=shown)
    spec = Preprocessing(height=SIZE, width=SIZE, resize="squash")
    label = {
        prepare(file.read_bytes(), spec, file.name).tobytes(): file.parent.name
        for file in defects.glob("*/*.*")
    }
    tiles = [tile for section in shown.sections[1:] for tile in section.tiles]
    assert 24 < len(tiles) <= 32
    for tile in tiles:
        pixels = np.ascontiguousarray(np.asarray(tile.image).transpose(2, 0, 1))
        assert tile.lines == (label[pixels.tobytes()],)


def test_shares_of_mixed_pictures_are_those_of_their_pixels(tmp_path: Path, shown: Shown) -> None:
    for name, level in (("black", 0), ("white", 255)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(16):
            colour = (level, level, abs(level - number))  # no two files are equal
            content = encode(plain(20, 20, colour))
            (tmp_path / "data" / name / f"{number}.png").write_bytes(content)
    still = [*STILL, "split.near_duplicates=false"]
    _show(tmp_path / "data", tmp_path / "s.png", *still, "augment.mixup=1", shown=shown)
    tiles, mixed = shown.sections[1].tiles, 0
    for tile in tiles:
        words = [re.fullmatch(r"(?:(\d+)% )?(black|white)", line) for line in tile.lines]
        shares = {word[2]: int(word[1] or 100) / 100 for word in words if word is not None}
        assert len(shares) == len(tile.lines)
        red = np.asarray(tile.image)[..., 0].mean() / 255
        assert shares.get("white", 0.0) == pytest.approx(red, abs=0.011)
        mixed += len(shares) == 2
    assert mixed > 0
    assert "mixed with another one" in shown.sections[1].sentence
    assert any("mixup (alpha 1)" in sentence for sentence in shown.sentences)


def test_tags_and_pictures_without_any(tags: Path, tmp_path: Path, shown: Shown) -> None:
    _show(tags, tmp_path / "sheet.png", shown=shown)
    lines = [" ".join(tile.lines) for tile in shown.sections[1].tiles]
    assert any(", " in line for line in lines)
    assert shown.sections[1].sentence.endswith("each with its tags.")


def test_names_of_a_taxonomy_are_short(surfaces: Path, tmp_path: Path, shown: Shown) -> None:
    _show(surfaces, tmp_path / "sheet.png", shown=shown)
    finishes = {folder.name for folder in surfaces.glob("*/*")}
    shorts = [tile.lines[0] for tile in shown.sections[1].tiles]
    assert any(line in finishes for line in shorts)


def test_first_row_is_one_picture_in_the_views_of_the_first_epochs(
    defects: Path, tmp_path: Path, shown: Shown
) -> None:
    _show(defects, tmp_path / "sheet.png", shown=shown)
    row, batch = shown.sections[0].tiles, shown.pixels(1)
    assert [tile.lines[0] for tile in row] == [
        *("the file", "in evaluation"),
        *(f"in epoch {epoch}" for epoch in range(1, 7)),
    ]
    views = [np.asarray(tile.image) for tile in row[2:]]
    assert (views[0] == batch[0]).all()
    assert len({view.tobytes() for view in views}) == 6
    picture = defects / shown.sections[0].sentence.split(" (")[0]
    spec = Preprocessing(height=SIZE, width=SIZE, resize="squash")
    judged = prepare(picture.read_bytes(), spec, "picture").transpose(1, 2, 0)
    assert (np.asarray(row[1].image) == judged).all()


def test_nothing_is_trained_or_written_beside_the_sheet(
    defects: Path, tmp_path: Path, shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert _show(defects, Path("sheet.png"), shown=shown) == Path("sheet.png")
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]
    assert not any(isinstance(event, StageStarted) for event in shown.events)
    notes = "\n".join(event.text for event in shown.events if isinstance(event, Note))
    assert "augmentation: random crops" in notes and "split: train" in notes
    assert shown.title.endswith("defects")
    assert any(sentence.startswith("Framing: squash to 56 x 56 px") for sentence in shown.sentences)


def test_the_same_seed_draws_the_same_sheet(defects: Path, tmp_path: Path) -> None:
    first = _show(defects, tmp_path / "a.png").read_bytes()
    assert _show(defects, tmp_path / "b.png").read_bytes() == first
    assert _show(defects, tmp_path / "c.png", seed=1).read_bytes() != first


def test_a_large_batch_is_cut_and_small_ones_follow_each_other(
    defects: Path, tmp_path: Path, shown: Shown
) -> None:
    _show(defects, tmp_path / "a.png", "batch_size=64", shown=shown)
    assert [len(section.tiles) for section in shown.sections[1:]] == [32]
    assert shown.sections[1].heading.endswith("63 pictures, the first 32 of them")
    _show(defects, tmp_path / "b.png", "batch_size=9", shown=shown)
    assert [len(section.tiles) for section in shown.sections[1:]] == [9, 9, 9]


def test_mixing_in_some_stages_only_is_said(defects: Path, tmp_path: Path, shown: Shown) -> None:
    stages = "stages=[{name: head, mixing: false}, {name: all, unfrozen_blocks: all}]"
    _show(defects, tmp_path / "a.png", stages, "augment.cutmix=1", shown=shown)
    assert "Pictures are mixed in these stages only: all." in shown.sentences
    none = "stages=[{name: head, mixing: false}]"
    _show(defects, tmp_path / "b.png", none, "augment.cutmix=1", shown=shown)
    assert all(len(tile.lines) == 1 for tile in shown.sections[1].tiles)
    assert "mixed" not in shown.sections[1].sentence


def test_existing_files_are_safe(defects: Path, tmp_path: Path) -> None:
    sheet = _show(defects, tmp_path / "sheet.png")
    before = sheet.read_bytes()
    with pytest.raises(OutputError, match="--overwrite"):
        _show(defects, sheet)
    _show(defects, sheet, seed=1, overwrite=True)
    assert sheet.read_bytes() != before
    photo = tmp_path / "photo.png"
    photo.write_bytes(encode(plain(9, 9, (1, 2, 3))))
    mine = photo.read_bytes()
    with pytest.raises(OutputError, match="taxon did not write it"):
        _show(defects, photo, overwrite=True)
    assert photo.read_bytes() == mine


def test_names_that_cannot_be_written(defects: Path, tmp_path: Path, shown: Shown) -> None:
    with pytest.raises(ConfigError, match=r"ends in \.png"):
        _show(defects, tmp_path / "sheet.jpg", shown=shown)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        _show(defects, tmp_path / "folder.png", shown=shown)
    with pytest.raises(OutputError, match="read as one of the pictures"):
        _show(defects, defects / "good" / "sheet.png", shown=shown)
    assert not any(isinstance(event, Loading) for event in shown.events)


def test_command(defects: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = tmp_path / "sheet.png"
    command = ["train", str(defects), "--weights", "none", "--model", TINY_BACKBONE, "--quiet"]
    command += ["--set", SETTINGS[0], "--out", str(tmp_path / "run"), "--show-batch", str(sheet)]
    assert run_cli(command) == 0
    assert capsys.readouterr().out.strip() == str(sheet)
    assert sheet.is_file() and not (tmp_path / "run").exists()
    assert run_cli(command) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run_cli([*command, "--overwrite"]) == 0


words = st.lists(st.text("abcWM-é中", min_size=1, max_size=30), min_size=1, max_size=9)


@given(words, st.integers(2, 4))
def test_lines_fit_and_what_is_left_out_is_counted(names: list[str], most: int) -> None:
    lines = listed(names, most)
    assert 1 <= len(lines) <= most
    more = re.search(r", \+(\d+) more$", " ".join(lines))
    shown = names[: len(names) - (int(more[1]) if more else 0)]
    assert shown
    assert " ".join(lines) == ", ".join(shown) + (more[0] if more else "")
    # Only a word that is too wide by itself is too wide for its line.
    font = ImageFont.load_default(17)
    for line in lines:
        assert font.getlength(line) <= TILE or ", " not in line
        assert font.getlength(shortened(line, TILE)) <= TILE


def test_long_names_lose_their_middle() -> None:
    assert shortened("crack", TILE) == "crack"
    short = shortened("long-sleeved-t-shirt-with-stripes-navy", TILE)
    assert short.startswith("long-sl") and short.endswith("navy") and "…" in short


def test_names_that_the_font_does_not_have() -> None:
    assert drawable("Crème Brûlée") == "Creme Brulee"
    assert drawable_names(["crack", "裂纹", "étain"]) == ("crack", "class 2", "etain")
    assert drawable_names(["pate", "pâté", "why?"]) == ("class 1", "class 2", "why?")


def test_undrawable_classes_are_explained(tmp_path: Path, shown: Shown) -> None:
    for number, name in enumerate(("good", "裂纹")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for place in range(12):
            noise = np.random.default_rng([number, place]).integers(0, 255, (16, 16, 3))
            content = encode(noise.astype(np.uint8))
            (tmp_path / "data" / name / f"{place}.png").write_bytes(content)
    _show(tmp_path / "data", tmp_path / "sheet.png", shown=shown)
    notes = [event.text for event in shown.events if isinstance(event, Note)]
    assert "on the sheet, class 2 is '裂纹'" in notes
    captions = {tile.lines[0] for tile in shown.sections[1].tiles}
    assert captions == {"good", "class 2"}


def test_pictures_of_any_shape_fit_their_tiles() -> None:
    sizes = ((1, 1), (3000, 2), (2, 3000), (168, 168), (500, 400))
    tiles = tuple(Tile(plain(*size, (200, 0, 0)), ("x",)) for size in sizes)
    sheet = np.asarray(draw_sheet("t", ["s " * 500], [Section("h", "", tiles)]))
    red = (sheet == (200, 0, 0)).all(axis=-1)
    assert red.any()
    columns = np.flatnonzero(red.any(axis=0))
    assert columns.max() < sheet.shape[1] - 3 * TILE
