"""A real server of small fake models, for the tests in a browser: `python page_server.py [KEY]`."""

from __future__ import annotations

import sys
from pathlib import Path

from serving_apps import MeanColour

from taxon.bundle import ModelSpec
from taxon.core.labels import LabelSpace
from taxon.decision import DecisionPolicy
from taxon.decision.policy import PredictionSets
from taxon.inference import Predictor
from taxon.preprocessing import Preprocessing
from taxon.serving import ServingSettings, serve
from taxon.serving.computing.local_engine import LocalEngine
from taxon.serving.models.card import Card, CardFigure, ClassFigures
from taxon.serving.models.places import Place
from taxon.serving.models.served import Opened
from taxon.serving.models.table import ModelTable

SIZE = 28
COLOURS = ("blue", "green", "red")
MAX_BODY = 200_000
CARD = """---
tags: [none of this is shown]
---
# Colours <script>document.title = "run"</script>

It names **colours**, see [the source](https://example.org) and [not this](javascript:alert(1)).

<!-- nor this -->
| Class | Pictures |
| --- | ---: |
| `red` | 4 |

- a first
- and *second* item
"""


def predictor(name: str, labels: LabelSpace, **policy: object) -> Predictor:
    """A model that is sure from 50 %."""
    spec = ModelSpec(
        name=name,
        fingerprint=name[0] * 64,
        backbone="mean",
        label_space=labels,
        preprocessing=Preprocessing(height=SIZE, width=SIZE),
        policy=DecisionPolicy.default(labels).model_copy(update={"abstain_below": 0.5, **policy}),
    )
    return Predictor(spec, MeanColour())


def described_colours() -> Predictor:
    """Of which some classes are described, with prediction sets."""
    labels = LabelSpace.flat("multiclass", COLOURS).model_copy(
        update={"descriptions": {"red": "as <i>blood</i>"}}
    )
    sets = PredictionSets(method="lac", coverage=0.9, limits=(0.7,))
    return predictor("colours", labels, sets=sets)


def card_of_colours() -> Card:
    """A card with markup in it, and a figure."""
    figure = CardFigure(
        name="Top-1", unit="share", value=0.8, ci95=(0.7, 0.9), meaning="pictures that are right"
    )
    classes = {"red": ClassFigures(pictures=4, precision=0.5, recall=None, f1=0.25)}
    return Card(text=CARD, pictures=12, figures=(figure,), classes=classes)


def page_table(settings: ServingSettings, *, several: bool) -> ModelTable:
    """The models: `colours`, with a card; and `tags` and `tree` where there are several."""
    models = [described_colours()]
    if several:
        tags = LabelSpace.flat("multilabel", COLOURS)
        tree = LabelSpace.taxonomy([("cold", "blue"), ("cold", "green"), ("warm", "red")])
        models += [
            predictor("tags", tags, thresholds=(0.25, 0.5, 0.3), abstain_below=0),
            predictor("tree", tree, taxonomy_confidence=0.6),
        ]
    by_name = {model.spec.name: model for model in models}

    def look() -> list[Place]:
        return [Place(Path(name), Path(name), None, "1", name) for name in by_name]

    async def open_place(place: Place) -> Opened:
        name = str(place.typed)
        engine = LocalEngine(by_name[name], settings)
        await engine.start()
        return Opened(engine, card=card_of_colours() if name == "colours" else None)

    return ModelTable(look, open_place)


def main(key: str | None = None) -> None:
    """Serve: all models; with a key one alone."""
    settings = ServingSettings(max_body_bytes=MAX_BODY, api_keys=() if key is None else (key,))
    table = page_table(settings, several=key is None)
    serve(table, port=0, settings=settings, on_ready=lambda url: print(url, flush=True))


if __name__ == "__main__":
    main(*sys.argv[1:])
