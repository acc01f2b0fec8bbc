"""How the model is used: with taxon, and what of it timm gives."""

from __future__ import annotations

import json
import shlex

from taxon.bundle.card.facts import CardFacts
from taxon.config import HeadKind

# The head in plain PyTorch, by the names in head.safetensors; `features` are pooled.
_HEADS: dict[HeadKind, tuple[str, ...]] = {
    "linear": ('logits = linear(features, head["weight"], head["bias"])',),
    "standardised": (
        'scaled = (features - head["0.mean"]) * head["0.factor"]',
        'logits = linear(scaled, head["1.weight"], head["1.bias"])',
    ),
    "mlp": (
        'hidden = gelu(linear(features, head["0.weight"], head["0.bias"]))',
        'logits = linear(hidden, head["3.weight"], head["3.bias"])',
    ),
}


def usage_lines(facts: CardFacts) -> list[str]:
    """Return the lines of Markdown; their code is run from beside the model folder."""
    name = facts.info.name
    quoted = shlex.quote(name)
    return [
        "```sh",
        f"taxon predict {quoted} PICTURE...",
        f"taxon serve {quoted}",
        "```",
        "",
        "```python",
        "import taxon",
        "",
        f"model = taxon.load({_text(name)})",
        'print(model.predict("picture.jpg"))',
        "```",
        "",
        *_timm(facts),
    ]


def for_hub(card: str, name: str, repository: str, revision: str | None) -> str:
    """Return a card whose commands and code take the model from the hub, in place of a folder.

    What people changed in them stays as it is.

    Args:
        name: of the model, as `usage_lines` has it.
        repository: `user/name`.
    """
    at = "" if revision is None else f"@{revision}"
    quoted, hub = shlex.quote(name), f"hf:{repository}{at}"
    head = f'hf_hub_download({_text(repository)}, "head.safetensors"'
    head += ")" if revision is None else f", revision={_text(revision)})"
    for here, there in (
        (f"taxon predict {quoted} PICTURE", f"taxon predict {hub} PICTURE"),
        (f"taxon serve {quoted}\n", f"taxon serve {hub}\n"),
        (f"taxon.load({_text(name)})", f"taxon.load({_text(hub)})"),
        (_text(f"local-dir:{name}"), _text(f"hf-hub:{repository}{at}")),
        (f"load_file({_text(f'{name}/head.safetensors')})", f"load_file({head})"),
        (
            "import torch\nfrom PIL import Image\n",
            "import torch\nfrom huggingface_hub import hf_hub_download\nfrom PIL import Image\n",
        ),
    ):
        card = card.replace(here, there)
    return card


def _timm(facts: CardFacts) -> list[str]:
    if facts.library != "timm":
        return [
            f"timm does not know this backbone; `model.safetensors` holds it in the names of "
            f"{facts.library}."
        ]
    name, pooling = facts.info.name, facts.info.pooling
    lines = [
        "**With timm.** The backbone loads as it is; without `num_classes` it gives the pooled "
        "features, with `num_classes=N` it has a new head of random weights.",
        "",
        "```python",
        "import timm",
        "",
        f"backbone = timm.create_model({_text(f'local-dir:{name}')}, pretrained=True).eval()",
        "```",
        "",
    ]
    if pooling == "last":
        lines.append("The trained head on top of it, without taxon:")
    else:
        lines.append(
            f"The trained head is not made for these features but for statistics of every block "
            f"(`pooling: {pooling}`), which timm does not compute: that takes taxon's own layer."
        )
    return [*lines, "", *_composed(facts), "", *_preprocessing(facts)]


def _composed(facts: CardFacts) -> list[str]:
    name, pooling = facts.info.name, facts.info.pooling
    gelu = "gelu, " if facts.info.head == "mlp" else ""
    imports = ["import torch", "from PIL import Image", "from safetensors.torch import load_file"]
    imports.append(f"from torch.nn.functional import {gelu}linear")
    extractor = "backbone"
    layer = []
    if pooling != "last":
        imports.append("from taxon.models.pooling import BlockStatistics")
        extractor = "pooled"
        layer = [f"pooled = BlockStatistics(backbone, with_last={pooling == 'all'}).eval()"]
    return [
        "```python",
        *imports,
        "",
        "transform = timm.data.create_transform(**timm.data.resolve_data_config(model=backbone))",
        'images = transform(Image.open("picture.jpg").convert("RGB")).unsqueeze(0)',
        "",
        f"head = load_file({_text(f'{name}/head.safetensors')})",
        *layer,
        "with torch.inference_mode():",
        *(f"    {line}" for line in (f"features = {extractor}(images)", *_HEADS[facts.info.head])),
        "```",
    ]


def _preprocessing(facts: CardFacts) -> list[str]:
    task = facts.spec.label_space.task
    squash = "torch.sigmoid" if task == "multilabel" else "torch.softmax"
    return [
        "For the same images these logits are the model's own, up to rounding. The classes are in "
        f"`labels.json`, in their order; probabilities are `{squash}` of `scale * logits + bias`, "
        "which are in `decision.json` with everything else of the policy. timm's transform cuts "
        "and resizes pictures in another order than taxon does, and knows nothing of EXIF "
        "orientation, 16-bit or transparent pictures: answers are near, and not equal. Where they "
        "must be the same, use taxon or the ONNX file in `artefacts/onnx`.",
    ]


def _text(value: str) -> str:
    """A string literal; JSON's are Python's too."""
    return json.dumps(value, ensure_ascii=False)
