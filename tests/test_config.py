"""Configuration: recipes, files, single overrides, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from taxon.config import StageConfig, TrainConfig, load_config
from taxon.config.load import RECIPES
from taxon.core.errors import ConfigError


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def _epochs(config: TrainConfig) -> list[int]:
    return [stage.epochs for stage in config.stages]


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_loads_and_says_its_name(recipe: str) -> None:
    config = load_config(recipe)
    assert config.recipe == recipe
    assert config.total_epochs > 0


def test_staged_recipe_is_the_charters() -> None:
    config = load_config("staged")
    found = [
        (stage.epochs, stage.unfrozen_blocks, stage.learning_rate, stage.schedule)
        for stage in config.stages
    ]
    assert found == [
        (5, 0, 1e-3, "constant"),
        (10, 2, 1e-4, "constant"),
        (10, "all", 1e-4, "cosine"),
    ]
    assert (config.batch_size, config.head) == (32, "mlp")


def test_unknown_recipe_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown recipe 'stagd'.*'staged'\?"):
        load_config("stagd")


def test_config_survives_json() -> None:
    config = load_config("staged", overrides=["preprocessing.size=64", "augment.colour=0"])
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config


def test_config_is_frozen() -> None:
    with pytest.raises(ValidationError):
        load_config("staged").seed = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("override", "key", "suggestion"),
    [
        ("batchsize=3", "batchsize", "batch_size"),
        ("augment.color=0.1", "augment.color", "colour"),
        ("preprocessing.crop_fractoin=1", "preprocessing.crop_fractoin", "crop_fraction"),
    ],
)
def test_unknown_key_is_named_with_the_nearest(override: str, key: str, suggestion: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("staged", overrides=[override])
    assert f"unknown key '{key}'" in str(caught.value)
    assert f"'{suggestion}'?" in str(caught.value)


def test_unknown_key_in_a_stage_is_named_with_the_nearest() -> None:
    stage = "{name: a, epochs: 1, unfrozen_blocks: 0, learning_rate: 0.1, warmup: 1}"
    with pytest.raises(ConfigError, match=r"'stages\.0\.warmup'.*epochs.*'warmup_epochs'\?"):
        load_config("staged", overrides=[f"stages=[{stage}]"])


def test_unknown_key_in_a_file_lists_what_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"unknown key 'batches'.*allowed here: accumulation, augment, batch_s"
    ):
        load_config("staged", file=_file(tmp_path, "batches: 3\n"))


@pytest.mark.parametrize(
    "override",
    [
        "batch_size=0",
        "batch_size=-4",
        "batch_size=many",
        "batch_size=null",
        "head=forest",
        "seed=-1",
        "seed=4294967296",
        "device=tpu",
        "loss.label_smoothing=1",
        "optimiser.weight_decay=.nan",
        "optimiser.weight_decay=.inf",
        "optimiser.ema=1",
        "accumulation=0",
        "feature_cache.views=-1",
        "stages=[]",
        "stages=3",
        "augment=3",
        "augment=null",
        "augment.colour=1.5",
        "augment.crop_scale=0",
        "augment.crop_ratio=0.5",
        "augment.horizontal_flip=often",
        "split.test=1",
        "split.test=.nan",
        "preprocessing.size=7",
        "preprocessing.resize=stretch",
    ],
)
def test_impossible_value_is_refused_and_shown(override: str) -> None:
    key, _, value = override.partition("=")
    with pytest.raises(ConfigError) as caught:
        load_config("staged", overrides=[override])
    assert f"'{key}" in str(caught.value)
    assert "received" in str(caught.value)
    if value.isalpha() and value != "null":
        assert value in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", -1),
        ("unfrozen_blocks", -1),
        ("unfrozen_blocks", "some"),
        ("unfrozen_blocks", 1.5),
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("schedule", "step"),
        ("warmup_epochs", -0.5),
    ],
)
def test_impossible_stage_is_refused_at_its_place(tmp_path: Path, field: str, value: Any) -> None:
    good = {"name": "a", "epochs": 1, "unfrozen_blocks": 0, "learning_rate": 0.1}
    StageConfig.model_validate(good)
    with pytest.raises(ConfigError, match=rf"stages\.1(\.{field})?"):
        load_config("staged", options={"stages": [good, good | {field: value}]})


def test_parts_may_not_take_nearly_everything() -> None:
    with pytest.raises(ConfigError, match=r"at most 0\.9"):
        load_config("staged", overrides=["split.validation=0.5", "split.test=0.5"])


@pytest.mark.parametrize(
    ("override", "field", "value"),
    [
        ("seed=7", "seed", 7),
        ("accumulation=2", "accumulation", 2),
        ("accumulation = 2", "accumulation", 2),
        ("model=resnet18", "model", "resnet18"),
        ("model=a=b", "model", "a=b"),
        ("model=null", "model", None),
        ("head='linear'", "head", "linear"),
    ],
)
def test_override_is_read_as_yaml(override: str, field: str, value: object) -> None:
    assert getattr(load_config("staged", overrides=[override]), field) == value


def test_a_number_that_yaml_takes_for_a_text_is_a_number() -> None:
    config = load_config("staged", overrides=["optimiser.weight_decay=1e-3"])
    assert config.optimiser.weight_decay == 0.001


def test_nested_override_leaves_its_neighbours() -> None:
    plain = load_config("staged")
    config = load_config("staged", overrides=["augment.colour=0.05"])
    assert config.augment == plain.augment.model_copy(update={"colour": 0.05})
    assert config.model_copy(update={"augment": plain.augment}) == plain


@pytest.mark.parametrize("override", ["seed", "=3", " =3", ""])
def test_override_without_key_or_value_is_refused_with_an_example(override: str) -> None:
    with pytest.raises(ConfigError, match=r"--set takes key=value.*augment\.colour=0\.1"):
        load_config("staged", overrides=[override])


def test_override_that_is_no_yaml_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--set model=\[a cannot be read"):
        load_config("staged", overrides=["model=[a"])


def test_later_sources_win(tmp_path: Path) -> None:
    file = _file(tmp_path, "batch_size: 1\nseed: 1\nhead: linear\naugment: {colour: 0.5}\n")
    config = load_config(
        "staged",
        file=file,
        options={"batch_size": 2, "seed": 2, "model": None},
        overrides=["batch_size=3", "batch_size=4", "augment.vertical_flip=0.5"],
    )
    assert (config.batch_size, config.seed, config.head) == (4, 2, "linear")
    assert (config.augment.colour, config.augment.vertical_flip) == (0.5, 0.5)
    assert config.model is None


def test_stages_of_a_file_replace_those_of_the_recipe(tmp_path: Path) -> None:
    stage = "{name: only, epochs: 3, unfrozen_blocks: all, learning_rate: 0.01}"
    config = load_config("staged", file=_file(tmp_path, f"stages: [{stage}]\n"))
    assert [stage.name for stage in config.stages] == ["only"]


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words\n", "3\n"])
def test_file_without_keys_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"settings\.yaml must hold keys and values"):
        load_config("staged", file=_file(tmp_path, text))


def test_file_that_is_no_yaml_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"settings\.yaml is not valid YAML") as caught:
        load_config("staged", file=_file(tmp_path, "a: [1,\nb: 2\n"))
    assert "\n" not in str(caught.value)


def test_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config("staged", file=path)


def test_file_with_keys_that_are_no_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="configuration"):
        load_config("staged", file=_file(tmp_path, "1: 2\n"))


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*gone\.yaml: No such file"):
        load_config("staged", file=tmp_path / "gone.yaml")


def test_epochs_scale_the_stages_in_their_proportion() -> None:
    assert _epochs(load_config("staged", options={"epochs": 50})) == [10, 20, 20]
    assert _epochs(load_config("staged", options={"epochs": 5})) == [1, 2, 2]
    assert _epochs(load_config("staged", options={"epochs": 25})) == [5, 10, 10]


@pytest.mark.parametrize("epochs", [0, -3])
def test_epochs_below_one_are_refused(epochs: int) -> None:
    with pytest.raises(ConfigError, match=f"at least 1, received {epochs}"):
        load_config("staged", options={"epochs": epochs})


@pytest.mark.parametrize("options", [{}, {"epochs": 3}])
def test_stages_without_any_epoch_are_refused(options: dict[str, int]) -> None:
    stage = "{name: a, epochs: 0, unfrozen_blocks: 0, learning_rate: 0.1}"
    with pytest.raises(ConfigError, match="no epochs"):
        load_config("staged", options=options, overrides=[f"stages=[{stage}]"])


@given(st.lists(st.integers(0, 200), min_size=1, max_size=6), st.integers(1, 2000))
@settings(max_examples=200, deadline=None)
def test_scaled_epochs_sum_to_the_total_and_stay_within_one_of_their_share(
    epochs: list[int], total: int
) -> None:
    assume(sum(epochs) > 0)
    stages = tuple(
        StageConfig(name="s", epochs=count, unfrozen_blocks=0, learning_rate=0.1)
        for count in epochs
    )
    scaled = _epochs(TrainConfig(recipe="staged", stages=stages).with_total_epochs(total))
    assert sum(scaled) == total
    for before, after in zip(epochs, scaled, strict=True):
        assert abs(after - before * total / sum(epochs)) < 1
        assert before or not after
