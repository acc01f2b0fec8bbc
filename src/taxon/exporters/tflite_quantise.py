"""Quantise a TFLite file; run by the converter's own Python (`converter_environment`).

python -m taxon.exporters.tflite_quantise FILE FOLDER VARIANTS [PICTURES]

Writes each variant that can be made into FOLDER, and into refused.json why others could not.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

from taxon.inference.litert import INPUT, SIGNATURE

REFUSED_FILE = "refused.json"
HALF = "float16"
# In the order of how much they leave to eight bits.
EIGHT_BITS = ("static", "static-products", "dynamic", "weights")
VARIANTS = {
    HALF: "weights in float16 but for depthwise convolutions, whose weights are few and uneven; "
    "arithmetic in float32",
    "static": "weights and values in eight bits, but for the values of squeeze-and-excite and of "
    "what follows the head",
    "static-products": "matrix products and convolutions in eight bits, but for depthwise ones and "
    "the values of squeeze-and-excite; what lies between them in float32",
    "dynamic": "weights in eight bits; matrix products and convolutions, but for depthwise ones, "
    "bring their inputs to eight bits at each call",
    "weights": "weights in eight bits, arithmetic in float32",
}
# Whose values stay in float32, by the names that the converter gives to what a layer computes.
_FLOAT_VALUES = r"Normalise|ScopeScore|^serving_default_|InferenceModule_core;"


def main(file: str, folder: str, names: str, pictures: str | None = None) -> None:
    """Write the variants, which are separated by commas.

    Args:
        pictures: a .npy file, uint8 [K, 3, H, W], to calibrate on.
    """
    wanted = names.split(",")
    ranges = None
    if pictures is not None and any(name.startswith("static") for name in wanted):
        ranges = _calibrate(file, np.load(pictures).transpose(0, 2, 3, 1))
    refused = {}
    for name in wanted:
        quantizer = _quantizer(file, name)
        try:
            result = quantizer.quantize(
                ranges if name.startswith("static") else None,
                enable_progress_bar=False,
                enable_progress_report=False,
            )
        except Exception as error:  # it raises any kind where a model has what it does not foresee
            refused[name] = f"the quantiser refuses the model: {error}"
            continue
        (Path(folder) / f"{name}.tflite").write_bytes(bytes(result.quantized_model))
    (Path(folder) / REFUSED_FILE).write_text(json.dumps(refused), encoding="utf-8")


def _calibrate(file: str, pictures: np.ndarray[Any, Any]) -> dict[str, Any]:
    """The range of every value on these pictures, uint8 [K, H, W, 3]."""
    from ai_edge_quantizer import quantizer
    from ai_edge_quantizer.qtyping import TFLOperationName

    calibrating = quantizer.Quantizer(file)
    calibrating.add_static_config(".*", TFLOperationName.ALL_SUPPORTED, 8, 8)
    data = [{INPUT: np.ascontiguousarray(picture[None])} for picture in pictures]
    ranges: dict[str, Any] = calibrating.calibrate({SIGNATURE: data}, num_threads=1)
    return ranges


def _quantizer(file: str, variant: str) -> Any:
    """A quantiser with the rules of a variant; of two rules, the later one holds."""
    from ai_edge_quantizer import quantizer
    from ai_edge_quantizer.qtyping import TFLOperationName as Operation

    made = quantizer.Quantizer(file)
    algorithms = quantizer.AlgorithmName
    everything, further = ".*", "."  # rules of one pattern would replace each other
    if variant == HALF:
        made.add_weight_only_config(
            everything, Operation.ALL_SUPPORTED, 16, algorithm_key=algorithms.FLOAT_CASTING
        )
    elif variant == "static":
        made.add_static_config(everything, Operation.ALL_SUPPORTED, 8, 8)
    elif variant == "static-products":
        for operation in (Operation.CONV_2D, Operation.FULLY_CONNECTED, Operation.BATCH_MATMUL):
            made.add_static_config(everything, operation, 8, 8)
    elif variant == "dynamic":
        made.add_dynamic_config(everything, Operation.ALL_SUPPORTED, 8)
        made.add_weight_only_config(further, Operation.DEPTHWISE_CONV_2D, 8)
    else:
        made.add_weight_only_config(everything, Operation.ALL_SUPPORTED, 8)
    if variant == HALF:
        made.update_quantization_recipe(
            further, Operation.DEPTHWISE_CONV_2D, None, algorithms.NO_QUANTIZE
        )
    if variant.startswith("static"):
        for pattern in (_FLOAT_VALUES, *_squeezed(file)):
            made.update_quantization_recipe(
                pattern, Operation.ALL_SUPPORTED, None, algorithms.NO_QUANTIZE
            )
            # Where there are weights, they alone.
            made.add_weight_only_config(f"(?:{pattern})", Operation.ALL_SUPPORTED, 8)
    return made


def _squeezed(file: str) -> list[str]:
    """Convolutions of pictures of one pixel: those of squeeze-and-excite.

    What they compute scales whole channels. In some trained networks all weights of a channel are
    zero, of which the quantiser makes a scale of zero that the runtime then refuses.
    """
    from ai_edge_litert.schema_py_generated import BuiltinOperator, Model, ModelT

    model = ModelT.InitFromObj(Model.GetRootAs(Path(file).read_bytes()))
    graph = model.subgraphs[0]
    names = []
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex].builtinCode
        if code == BuiltinOperator.CONV_2D:
            shape = graph.tensors[operator.inputs[0]].shape
            if list(shape[1:3]) == [1, 1]:
                name = graph.tensors[operator.outputs[0]].name.decode()
                names.append(f"^{re.escape(name)};$")
    return names


if __name__ == "__main__":
    main(*sys.argv[1:])
