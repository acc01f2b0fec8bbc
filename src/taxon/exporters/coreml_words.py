"""What a Core ML package says of itself, and what its user must know."""

from __future__ import annotations

import json
from typing import Any

from taxon.bundle import Bundle, ModelSpec
from taxon.core.licences import duty_in_words
from taxon.core.versions import taxon_version
from taxon.exporters.framing_words import VISION_OPTION, framing_in_words
from taxon.inference.coreml import INPUT, LABEL
from taxon.inference.onnx_runtime import OUTPUTS, SCOPE_OUTPUT, SPEC_KEY


def describe(model: Any, bundle: Bundle) -> None:
    """Put the spec, the labels, how to crop, the licence and words for Xcode into the metadata.

    Args:
        model: coremltools' MLModel.
    """
    spec = bundle.spec
    names = spec.label_space.names
    licence = bundle.info.provenance.weights.get("licence", "unknown")
    model.short_description = f"{spec.name}: {spec.backbone}, {len(names)} classes"
    model.author = f"taxon {taxon_version()}"
    model.license = f"Weights: {licence}. {duty_in_words(licence)}"
    model.version = spec.fingerprint[:12]
    model.input_description[INPUT] = framing_in_words(spec.preprocessing)
    for name, words in outputs_in_words(spec).items():
        model.output_description[name] = words
    model.user_defined_metadata.update(
        {
            SPEC_KEY: spec.model_dump_json(),
            "taxon.labels": json.dumps(names, ensure_ascii=False),
            "taxon.thresholds": json.dumps(spec.policy.thresholds),
            "taxon.abstain_below": str(spec.policy.abstain_below),
            "taxon.framing": framing_in_words(spec.preprocessing),
            "taxon.vision_crop_and_scale": VISION_OPTION[spec.preprocessing.resize],
            "taxon.crop_fraction": str(_crop_fraction(spec)),
            **(
                {}
                if spec.policy.scope is None
                else {"taxon.scope_limit": str(spec.policy.scope.limit)}
            ),
        }
    )


def outputs_in_words(spec: ModelSpec) -> dict[str, str]:
    """The outputs of a package: name -> type and meaning."""
    count = len(spec.label_space.names)
    words = {}
    if spec.label_space.task == "multiclass":
        words[LABEL] = "string: the most probable class"
        words[OUTPUTS[0]] = "dictionary: class -> calibrated probability, 0 to 1"
    else:
        words[OUTPUTS[0]] = f"float32 [1, {count}]: calibrated probabilities, 0 to 1"
    words[OUTPUTS[1]] = f"float32 [1, {count}]: before calibration"
    if spec.policy.scope is not None:
        words[SCOPE_OUTPUT] = (
            f"float32 [1]: below {spec.policy.scope.limit:.3f} the picture is of something else"
        )
    return words


def limits(spec: ModelSpec, half: bool) -> tuple[str, ...]:
    """What a user must know whatever was compared."""
    notes = ["One picture a call: Core ML takes pictures in batches of one."]
    resize = spec.preprocessing.resize
    option = f"Vision's option is {VISION_OPTION[resize]}"
    if resize == "crop" and spec.preprocessing.crop_fraction < 1:
        option += f", on the middle {spec.preprocessing.crop_fraction:.1%} of the picture"
    if resize == "pad":
        option += (
            f", whose border may have another grey level than {spec.preprocessing.background}: "
            "draw the picture on a canvas of that level yourself"
        )
    notes.append(
        f"{option}; its filter is not ours ({spec.preprocessing.interpolation}), which was not "
        "compared."
    )
    if half:
        notes.append(
            "In half precision Apple's chips may add up in another order and width than was "
            "compared: each operation in float32, its result rounded to float16."
        )
    if spec.policy.costs is not None or spec.policy.taxonomy_rule != "most-probable":
        notes.append(
            f"{LABEL} is the most probable class; the policy names by expected cost, which the "
            f"host computes from {OUTPUTS[0]} and the {SPEC_KEY} in the metadata."
        )
    return tuple(notes)


def _crop_fraction(spec: ModelSpec) -> float:
    """The share of each side that the host keeps before it scales."""
    return spec.preprocessing.crop_fraction if spec.preprocessing.resize == "crop" else 1.0
