"""ONNX in eight bits: static quantisation, calibrated on the training pictures.

Weights have a scale a channel, activations one a tensor (Jacob et al. 2018, "Quantization and
Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference"), written as pairs of
QuantizeLinear and DequantizeLinear, which every runtime reads.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from taxon.core.predictions import ImageBatch
from taxon.core.versions import made_with
from taxon.exporters.job import ExportJob, Written, tensor_inputs, tensor_outputs
from taxon.exporters.layer_choice import Choice, choose_layers
from taxon.exporters.onnx import FILE_NAME
from taxon.exporters.onnx_graph import network_nodes, save_checked
from taxon.exporters.parity import run_all
from taxon.inference.onnx_runtime import OnnxRuntimeBackend

# What processors compute in eight bits; quantising the cheap rest costs accuracy and time.
QUANTISED = ("Conv", "MatMul", "Gemm")
# Of each activation this share of values is within its range; the rest is clipped.
PERCENTILE = 99.99
_CALIBRATION_BYTES = 2**28  # of pictures at the model's size, as float32, with their activations


def export_onnx_int8(job: ExportJob, folder: Path) -> Written:
    """Write model.onnx with as many layers in eight bits as the accuracy budget allows.

    Raises:
        CheckFailed: no layer bears it.
        DataError: there are no pictures to calibrate on.
    """
    import onnx

    source = job.float_onnx()
    rival = OnnxRuntimeBackend(source, name="onnx")
    validation = job.pictures.validation()
    with tempfile.TemporaryDirectory(prefix="taxon-") as scratch:
        quantiser = _Quantiser(source, Path(scratch))
        quantiser.calibrate(job.pictures.training())
        choice = choose_layers(
            quantiser.layers,
            quantiser.build,
            validation,
            run_all(rival, validation.images),
            job.bundle.spec,
            max_drop=job.options.max_drop,
            tell=job.tell,
        )
        model = onnx.load(quantiser.write(choice.kept))
    save_checked(model, folder / FILE_NAME, job.bundle.spec, precision="int8")
    return Written(
        file=FILE_NAME,
        inputs=tensor_inputs(job.bundle),
        outputs=tensor_outputs(job.bundle),
        made_with=made_with("onnx", "onnxruntime"),
        rival=rival,
        notes=(choice_sentence(choice),),
        details={"quantisation": choice_details(choice) | {"percentile": PERCENTILE}},
    )


def choice_sentence(choice: Choice) -> str:
    """Say how many layers have eight bits, and why not all."""
    if not choice.kept:
        return f"All {choice.layers} layers are in eight bits."
    first, best = choice.all_quantised, choice.chosen
    return (
        f"{choice.layers - len(choice.kept)} of {choice.layers} layers are in eight bits: with all "
        f"of them {first.changed_decisions} of {first.pictures} answers on the validation "
        f"pictures changed, so {best.changed_decisions} do."
    )


def choice_details(choice: Choice) -> dict[str, Any]:
    """The same for artefact.json, with the error that each layer alone makes."""
    return {
        "layers": choice.layers,
        "kept_in_float": sorted(choice.kept),
        "all_quantised": choice.all_quantised.model_dump(mode="json"),
        "chosen": choice.chosen.model_dump(mode="json"),
        "error_of_layer_alone": {name: round(error, 6) for name, error in choice.errors},
    }


class _Quantiser:
    """Writes a float model with eight bits in some of its layers; calibrated once.

    Args:
        source: the float ONNX.
        scratch: a folder for intermediate files.
    """

    def __init__(self, source: Path, scratch: Path) -> None:
        import onnx
        from onnxruntime.quantization.shape_inference import quant_pre_process

        self._scratch = scratch
        self._prepared = scratch / "prepared.onnx"
        # Shapes only: fused by ONNX Runtime, layers would lose their names.
        with _quiet():
            quant_pre_process(
                source, self._prepared, skip_optimization=True, skip_symbolic_shape=True
            )
        graph = onnx.load(self._prepared).graph
        inside = network_nodes(graph)
        self.layers = [
            node.name for node in graph.node if node.op_type in QUANTISED and node.name in inside
        ]

    def calibrate(self, images: ImageBatch) -> None:
        """Find the range of every activation.

        Args:
            images: uint8 [K, 3, H, W], of the training part.
        """
        with _quiet():
            self._ranges = self._found_ranges(images)

    def _found_ranges(self, images: ImageBatch) -> Any:
        from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

        most = max(16, _CALIBRATION_BYTES // (4 * 8 * images[0].size))
        calibrator = create_calibrator(
            self._prepared,
            list(QUANTISED),
            augmented_model_path=str(self._scratch / "augmented.onnx"),
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={"percentile": PERCENTILE},
        )
        # All that it is given at once it keeps in memory.
        for start in range(0, min(most, len(images)), 8):
            calibrator.collect_data(_Batches(images[start : start + 8]))
        return calibrator.compute_data()

    def build(self, kept: frozenset[str]) -> OnnxRuntimeBackend:
        """Return a backend in which all layers but `kept` have eight bits."""
        return OnnxRuntimeBackend(self.write(kept), name="onnx-int8")

    def write(self, kept: frozenset[str]) -> Path:
        """Write such a model and return its path; the next one overwrites it."""
        import onnx
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        quantiser = QDQQuantizer(
            onnx.load(self._prepared),
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=self._ranges,
            nodes_to_quantize=[name for name in self.layers if name not in kept],
            nodes_to_exclude=[],
            op_types_to_quantize=list(QUANTISED),
            extra_options={},
        )
        file = self._scratch / "quantised.onnx"
        with _quiet():
            quantiser.quantize_model()
            quantiser.model.save_model_to_file(str(file))
        return file


class _Batches:
    """Pictures one by one, as ONNX Runtime's calibration asks for them."""

    def __init__(self, images: ImageBatch) -> None:
        self._images: Iterator[np.ndarray] = iter(images)

    def get_next(self) -> dict[str, ImageBatch] | None:
        """Return the next picture as a batch of one, None after the last."""
        image = next(self._images, None)
        return None if image is None else {"images": image[None]}


@contextmanager
def _quiet() -> Iterator[None]:
    """ONNX Runtime's tools print what they do, and warn about what was decided here."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        logger.setLevel(level)
