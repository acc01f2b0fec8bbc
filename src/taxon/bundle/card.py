"""The model card: what the model is, in words, beside its files."""

from __future__ import annotations

from taxon.bundle.layout import BundleInfo
from taxon.core.labels import LabelSpace
from taxon.core.licences import duty

_TASKS = {"multiclass": "one class a picture", "multilabel": "any number of tags a picture"}
_SHOWN_CLASSES = 50


def model_card(info: BundleInfo, label_space: LabelSpace) -> str:
    """Return README.md for a bundle, in Markdown."""
    provenance = info.provenance
    licence = provenance.weights.get("licence", "none needed")
    asked = duty(licence)
    names = ", ".join(f"`{name}`" for name in label_space.names[:_SHOWN_CLASSES])
    more = len(label_space.names) - _SHOWN_CLASSES
    lines = [
        f"# {info.name}",
        "",
        f"An image classifier ({_TASKS[label_space.task]}) over {len(label_space.names)} "
        f"classes, trained with taxon {provenance.versions.get('taxon', '')}.",
        "",
        "| | |",
        "|---|---|",
        f"| Backbone | `{info.backbone}` |",
        f"| Pretrained weights | {provenance.weights.get('source', 'unknown')} |",
        f"| Licence of the weights | {licence} |",
        f"| Trained | {provenance.created}, {provenance.seconds:.0f} s on {provenance.device} |",
        f"| Model fingerprint | `{info.fingerprint}` |",
        f"| Data fingerprint | `{provenance.data_fingerprint}` |",
        "",
        *([f"**Licence.** {asked}.", ""] if asked else []),
        f"Classes: {names}{f' and {more} more' if more > 0 else ''}.",
        "",
        "Figures with their intervals are in `metrics.json` and `report/report.html`, once "
        "`taxon evaluate` has been run on this folder.",
        "",
        "## Made with",
        "",
        f"    {provenance.command}",
        "",
        "## What was decided on the way",
        "",
        *(f"- {note}" for note in provenance.notes),
        "",
    ]
    return "\n".join(lines)
