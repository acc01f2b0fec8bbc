"""A real server of small fake models, for the tests in a browser: `python page_server.py [KEY]`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from taxon.bundle import ModelSpec
from taxon.core.labels import LabelSpace
from taxon.core.predictions import ImageBatch
from taxon.decision import DecisionPolicy
from taxon.decision.policy import PredictionSets
from taxon.inference import Outputs, Predictor
from taxon.preprocessing import Preprocessing
from taxon.serving import ServingSettings, serve
from taxon.serving.card import Card, CardFigure, ClassFigures
from taxon.serving.engine import LocalEngine
from taxon.serving.places import Place
from taxon.serving.table import ModelTable, Opened

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


class MeanColour:
    """Probabilities from the mean colours, in the order blue, green, red."""

    name = "onnxruntime"

    def run(self, images: ImageBatch) -> Outputs:
        means = images.mean(axis=(2, 3))[:, ::-1].astype(np.float32) + 1
        probabilities = means / means.sum(axis=1, keepdims=True)
        return Outputs(logits=np.log(probabilities), probabilities=probabilities)


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


def main(key: str | None) -> None:
    """Serve: all models; with a key one alone."""
    tags = predictor(
        "tags", LabelSpace.flat("multilabel", COLOURS), thresholds=(0.25, 0.5, 0.3), abstain_below=0
    )
    tree = LabelSpace.taxonomy([("cold", "blue"), ("cold", "green"), ("warm", "red")])
    models = [described_colours()]
    if key is None:
        models += [tags, predictor("tree", tree, taxonomy_confidence=0.6)]
    figure = CardFigure(
        name="Top-1", unit="share", value=0.8, ci95=(0.7, 0.9), meaning="pictures that are right"
    )
    classes = {"red": ClassFigures(pictures=4, precision=0.5, recall=None, f1=0.25)}
    card = Card(text=CARD, pictures=12, figures=(figure,), classes=classes)
    settings = ServingSettings(max_body_bytes=MAX_BODY, api_keys=() if key is None else (key,))
    by_name = {model.spec.name: model for model in models}

    def look() -> list[Place]:
        return [Place(Path(name), Path(name), None, "1", name) for name in by_name]

    async def open_place(place: Place) -> Opened:
        engine = LocalEngine(by_name[str(place.typed)], settings)
        await engine.start()
        return Opened(engine, card=card if place.typed == Path("colours") else None)

    serve(
        ModelTable(look, open_place),
        port=0,
        settings=settings,
        on_ready=lambda url: print(url, flush=True),
    )


if __name__ == "__main__":
    main(*(sys.argv[1:] or [None]))
