"""Eight bits by NNCF, with layers returned to float until the answers hold."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np

from taxon.core.errors import CheckFailed
from taxon.exporters.job import ExportJob, Labelled
from taxon.exporters.onnx_graph import network_nodes
from taxon.exporters.parity import compare_outputs, joined, run_all
from taxon.exporters.parity_report import ParityReport
from taxon.inference import Backend, Outputs
from taxon.inference.openvino import run_compiled

if TYPE_CHECKING:
    import openvino

_COMPUTED = ("Convolution", "GroupConvolution", "MatMul")
_RANKING_PICTURES = 48


def quantise(
    job: ExportJob, model: openvino.Model, reference: Backend
) -> tuple[openvino.Model, str, dict[str, Any]]:
    """Quantise the network; what turns logits and features into answers stays in float.

    Returns:
        The model, how many of its layers have eight bits in a sentence, and the same as JSON.

    Raises:
        CheckFailed: the budget cannot be kept.
        DataError: there are no pictures to calibrate on.
    """
    import nncf

    validation, training = job.pictures.validation(), job.pictures.training()
    judge = _Judge(job, validation, run_all(reference, validation.images))
    with _quiet():
        quantised = nncf.quantize_with_accuracy_control(
            model,
            nncf.Dataset([image[None] for image in training], _feed),
            nncf.Dataset([image[None] for image in validation.images], _feed),
            judge.budget_left,
            max_drop=1.0,
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(training),
            ignored_scope=nncf.IgnoredScope(names=_outside(job, model), validate=False),
            advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(
                ranking_subset_size=_RANKING_PICTURES
            ),
        )
    report = judge.report(quantised)
    total, left = _count(model), _count_float(quantised)
    if judge.left(report) < 0 or left == total:
        raise CheckFailed(
            f"{job.bundle.spec.backbone} does not bear eight bits within the budget: "
            f"{report.changed_decisions} of {report.pictures} answers change, macro-F1 may lose "
            f"{job.options.max_drop:.1%}; take a format with 16 bits, or allow more with --max-drop"
        )
    sentence = f"{total - left} of {total} layers are in eight bits"
    sentence += "." if not left else ", the others would change more answers than allowed."
    return (
        quantised,
        sentence,
        {
            "layers": total,
            "kept_in_float": left,
            "chosen": report.model_dump(mode="json"),
        },
    )


class _Judge:
    """How much of the accuracy budget a quantised model leaves on the validation pictures."""

    def __init__(self, job: ExportJob, validation: Labelled, expected: Outputs) -> None:
        self._job = job
        self._validation = validation
        self._expected = expected

    def budget_left(self, model: openvino.CompiledModel, _: Iterable[Any]) -> tuple[float, None]:
        """For NNCF: 1 where nothing changes, 0 where the budget is used up, negative beyond."""
        report = self._compare(model)
        left = self.left(report)
        if left < 0:  # NNCF now ranks all layers, or returns the next ones: minutes in silence
            self._job.tell(
                f"eight bits by NNCF: {report.changed_decisions} of {report.pictures} answers "
                "change; layers return to float until they hold, which takes minutes"
            )
        return left, None

    def report(self, model: openvino.Model) -> ParityReport:
        """Compare a model with the float one."""
        import openvino

        return self._compare(openvino.compile_model(model, "CPU"))

    def left(self, report: ParityReport) -> float:
        """As `budget_left`: the smaller of what is left of changed answers and of macro-F1."""
        used = report.changed_decisions / (report.allowed_changed * report.pictures)
        if report.macro_f1 is not None:
            drop = report.macro_f1["reference"] - report.macro_f1["artefact"]
            used = max(used, drop / max(self._job.options.max_drop, 1e-9))
        return 1.0 - used

    def _compare(self, model: openvino.CompiledModel) -> ParityReport:
        images = self._validation.images
        starts = range(0, len(images), 16)
        parts = [run_compiled(model, images[start : start + 16]) for start in starts]
        return compare_outputs(
            self._expected,
            joined(parts),
            list(self._validation.names),
            self._job.bundle.spec,
            artefact="eight bits",
            reference="float",
            precision="int8",
            targets=self._validation.targets,
            max_drop=self._job.options.max_drop,
        )


def _feed(image: np.ndarray) -> dict[str, np.ndarray]:
    return {"images": image}


def _outside(job: ExportJob, model: openvino.Model) -> list[str]:
    """Names of the layers that turn logits and features into answers."""
    import onnx

    inside = network_nodes(onnx.load(job.float_onnx()).graph)
    names = [node.get_friendly_name() for node in _layers(model)]
    return [name for name in names if name.split("/")[0] not in inside]


def _layers(model: openvino.Model) -> list[openvino.Node]:
    return [node for node in model.get_ops() if node.get_type_name() in _COMPUTED]


def _count(model: openvino.Model) -> int:
    return len(_layers(model))


def _count_float(model: openvino.Model) -> int:
    """Layers none of whose inputs comes from a quantiser."""
    return sum(
        not any(
            value.get_source_output().get_node().get_type_name() == "FakeQuantize"
            for value in node.inputs()
        )
        for node in _layers(model)
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """NNCF shows bars and logs what it does."""
    import nncf

    logger = logging.getLogger("nncf")
    level = logger.level
    nncf.set_log_level(logging.ERROR)
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        nncf.set_log_level(level or logging.INFO)
