"""The model card of the server: what is read of a model folder, and who may read what."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from page_server import CARD, page_table
from serving_apps import error_of, make_predictor

from taxon.serving import ServingSettings, create_app
from taxon.serving.computing.local_engine import LocalEngine
from taxon.serving.models import card as card_module
from taxon.serving.models.card import Card, read_card
from taxon.serving.models.places import Place
from taxon.serving.models.served import Opened
from taxon.serving.models.table import ModelTable

KEY = "a key of more than sixteen letters"
FIGURE = {"value": 0.75, "ci95": [0.5, 0.9]}
METRICS = {
    "task": "multiclass",
    "n": 12,
    "top1": FIGURE,
    "macro_f1": {"value": None, "reason": "absent classes"},
    "log_loss": {"value": 1.5},
    "confusion": [[1]],
    "per_class": {"red": {"precision": {"value": None}, "recall": FIGURE, "support": 4}},
    "about": {"fingerprint": "f"},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a card and metrics."""
    (tmp_path / "README.md").write_text("# A card \u2713\n", encoding="utf-8")
    (tmp_path / "metrics.json").write_text(json.dumps(METRICS))
    return tmp_path


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    settings = ServingSettings(api_keys=(KEY,))
    app = create_app(page_table(settings, several=True), settings)
    with TestClient(app, headers={"x-api-key": KEY}) as client:
        yield client


def test_card_and_figures_are_read(folder: Path) -> None:
    card = read_card(folder, "f")
    assert card is not None
    assert (card.text, card.pictures) == ("# A card \u2713\n", 12)
    # Those without a value are left out, in the order of importance.
    top1, loss = card.figures
    assert (top1.name, top1.unit, top1.value, top1.ci95) == ("Top-1", "share", 0.75, (0.5, 0.9))
    assert (loss.name, loss.unit, loss.value, loss.ci95) == ("Log loss", "number", 1.5, None)
    (red,) = card.classes.values()
    assert (red.pictures, red.precision, red.recall) == (4, None, 0.75)


def test_several_labels_lead_with_other_figures(folder: Path) -> None:
    metrics = METRICS | {"task": "multilabel", "average_precision": {"macro": {"value": 0.5}}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    card = read_card(folder, "f")
    assert card is not None
    assert [figure.name for figure in card.figures] == ["mAP", "Log loss"]


def test_a_folder_without_them(tmp_path: Path) -> None:
    assert read_card(tmp_path, "f") is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "metrics.json is damaged"),
        ('{"task": "multiclass"}', "metrics.json is damaged: n"),
        (json.dumps(METRICS | {"about": {"fingerprint": "e"}}), "of another state of the model"),
    ],
)
def test_figures_that_cannot_be_shown_are_left_out(
    folder: Path, caplog: pytest.LogCaptureFixture, content: str, reason: str
) -> None:
    (folder / "metrics.json").write_text(content)
    with caplog.at_level(logging.WARNING):
        card = read_card(folder, "f")
    assert card is not None and card.text is not None and card.figures == ()
    assert reason in caplog.text


def test_a_card_that_cannot_be_shown_is_left_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[str] = []
    monkeypatch.setattr(
        card_module._log, "warning", lambda text, *given: warned.append(text % given)
    )
    (folder / "README.md").write_bytes(b"\xff" * 1_000)
    assert (card := read_card(folder, "f")) and card.text is None and card.figures
    (folder / "README.md").write_bytes(b"#" * (1024 * 1024 + 1))
    assert (card := read_card(folder, "f")) and card.text is None
    assert "cannot read" in warned[0] and "1048577 bytes" in warned[1]


def test_a_trained_model_has_one(run: Path) -> None:
    fingerprint = json.loads((run / "metrics.json").read_text())["about"]["fingerprint"]
    card = read_card(run, fingerprint)
    assert card is not None and card.text is not None
    assert card.figures[0].name == "Top-1" and card.figures[0].ci95 is not None
    assert set(card.classes) == set(json.loads((run / "labels.json").read_text())["names"])


def test_route(client: TestClient) -> None:
    answer = client.get("/v1/card?model=colours").json()
    assert answer["model"]["name"] == "colours"
    assert answer["card"]["text"] == CARD
    assert answer["card"]["figures"][0]["ci95"] == [0.7, 0.9]
    assert "'tags' has neither a card" in error_of(client.get("/v1/card?model=tags"), 404)
    assert "several models" in error_of(client.get("/v1/card"), 404)


def test_each_version_has_its_own() -> None:
    predictor = make_predictor()

    async def open_place(place: Place) -> Opened:
        engine = LocalEngine(predictor, ServingSettings(), 2)
        await engine.start()
        return Opened(engine, card=Card(text=f"of version {place.version}"))

    places = [Place(Path(each), Path(each), "m", each, each) for each in ("1", "2")]
    with TestClient(create_app(ModelTable(lambda: places, open_place))) as client:
        for query, version in (("", "2"), ("&version=1", "1"), ("&version=2", "2")):
            answer = client.get(f"/v1/card?model=m{query}").json()
            assert answer["model"]["version"] == version
            assert answer["card"]["text"] == f"of version {version}"
        assert "version '3'" in error_of(client.get("/v1/card?model=m&version=3"), 404)


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/static/page.js"])
def test_pages_need_no_key(client: TestClient, path: str) -> None:
    assert client.get(path, headers={"x-api-key": ""}).status_code == 200


@pytest.mark.parametrize(
    "path", ["/v1/models", "/v1/card", "/metrics", "/docs/x", "/static", "//static/page.js"]
)
def test_everything_else_needs_one(client: TestClient, path: str) -> None:
    assert "wants a key" in error_of(client.get(path, headers={"x-api-key": ""}), 401)


def test_every_file_of_the_pages_is_served_as_what_it_is(client: TestClient) -> None:
    kinds = {"js": "text/javascript", "css": "text/css", "html": "text/html", "svg": "image/svg"}
    for file in (resources.files("taxon.serving") / "static").iterdir():
        answer = client.get(f"/static/{file.name}")
        kind = kinds[Path(file.name).suffix[1:]]
        assert answer.headers["content-type"].startswith(kind), file.name
