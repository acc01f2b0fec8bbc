"""The block at the top of the card that the Hugging Face Hub reads."""

from __future__ import annotations

from typing import Any

from taxon.bundle.card.facts import CardFacts, IndexedFigure, MeasuredFacts
from taxon.core.licences import on_the_hub
from taxon.core.text import one_line

TASK = "image-classification"
_HUB_SOURCE = "hub: "  # how the provenance of weights names a repository of the Hub
# What an evaluation changes; everything else stays as it was first written, or as people made it.
_REFRESHED = ("metrics", "model-index")


def metadata_block(facts: CardFacts, previous: str | None) -> str:
    """Return the YAML block with its dashes, from the Hub's own library.

    A licence or a language that somebody wrote into the block of the previous card is kept; the
    figures are always those of now.

    Args:
        previous: the whole previous card, None where there is none.

    Raises:
        ValueError: the block of the previous card is damaged.
    """
    from huggingface_hub import ModelCardData

    several = ["multi-label"] if facts.spec.label_space.task == "multilabel" else []
    content: dict[str, Any] = {
        **_licence(facts),
        **_base_model(facts),
        "library_name": facts.library,
        "pipeline_tag": TASK,
        "tags": ["taxon", TASK, *several],
    }
    if previous is not None:
        content |= _kept(previous)
    if facts.measured is not None:
        content |= _measured(facts, facts.measured)
    return f"---\n{ModelCardData(**content).to_yaml()}\n---"


def _kept(card: str) -> dict[str, Any]:
    return {key: value for key, value in read_block(card).items() if key not in _REFRESHED}


def read_block(card: str) -> dict[str, Any]:
    """Return the content of a card's YAML block.

    Raises:
        ValueError: it is not YAML, no mapping, or its `model-index` has not the Hub's form.
    """
    import yaml
    from huggingface_hub import ModelCard

    try:
        content: dict[str, Any] = ModelCard(card).data.to_dict()  # type: ignore[no-untyped-call]
    except yaml.YAMLError as error:
        raise ValueError(f"the block at its top is not YAML: {error}") from error
    return content


def _licence(facts: CardFacts) -> dict[str, str]:
    """That of the pretrained weights; a model without any has none until its owner gives it one."""
    licence = facts.info.provenance.weights.get("licence")
    return {} if licence is None else on_the_hub(licence)


def _base_model(facts: CardFacts) -> dict[str, str]:
    """The repository that the pretrained weights were loaded from; a file names none."""
    source = facts.info.provenance.weights.get("source", "")
    if not source.startswith(_HUB_SOURCE):
        return {}
    return {"base_model": source.removeprefix(_HUB_SOURCE)}


def _measured(facts: CardFacts, measured: MeasuredFacts) -> dict[str, Any]:
    """`metrics` and `model-index`."""
    from huggingface_hub import EvalResult
    from huggingface_hub.repocard_data import eval_results_to_model_index

    def result(entry: IndexedFigure) -> EvalResult:
        assert entry.figure.value is not None
        interval = entry.figure.ci95
        return EvalResult(
            task_type=TASK,
            dataset_type="imagefolder",  # the Hub's name for pictures that are nobody's data set
            dataset_name=one_line(facts.data.name),
            dataset_split="test",
            dataset_revision=facts.info.provenance.data_fingerprint,
            metric_type=entry.type,
            metric_name=entry.name,
            metric_value=_rounded(entry.figure.value),
            metric_args=None if interval is None else {"ci95": [_rounded(end) for end in interval]},
        )

    name, results = one_line(facts.info.name), [result(row) for row in measured.indexed]
    return {
        "metrics": list(dict.fromkeys(entry.type for entry in measured.indexed)),
        "model-index": eval_results_to_model_index(name, results),
    }


def _rounded(number: float) -> float:
    return round(number, 4)
