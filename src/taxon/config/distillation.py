"""Configuration of distillation: a teacher whose probabilities are targets too."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from taxon.config.base import Config


class DistillationConfig(Config):
    """Knowledge distillation (Hinton et al. 2015).

    Attributes:
        teacher: a model folder that `taxon train` wrote, or an exported ONNX artefact; null
            trains on the labels alone.
        share: of the teacher's term in the loss, 0 to 1; the labels' term has the rest. One half
            trusts both alike, as long as nobody has measured which of them errs more.
        temperature: from 1 on; the calibrated logits of the teacher and the logits of the student
            are divided by it, so that the teacher's second and third choices are seen.
    """

    teacher: str | None = None
    share: float = Field(default=0.5, ge=0, le=1)
    temperature: float = Field(default=2.0, ge=1, le=100)

    @model_validator(mode="after")
    def _check(self) -> Self:
        fields = type(self).model_fields
        idle = [name for name in _OF_TEACHER if getattr(self, name) != fields[name].default]
        if idle and self.teacher is None:
            raise ValueError(f"'{idle[0]}' belongs to a teacher; add --teacher RUN or leave it out")
        return self


_OF_TEACHER = ("share", "temperature")
