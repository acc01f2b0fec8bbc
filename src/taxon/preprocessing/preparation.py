"""What becomes of a picture's bytes before the graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from taxon.preprocessing.frames import prepare_frame
from taxon.preprocessing.spec import Preprocessing
from taxon.preprocessing.transform import prepare


@dataclass(frozen=True)
class Preparation:
    """What becomes of a picture's bytes before the graph; the same in every process.

    Attributes:
        preprocessing: of the model.
        frame: (width, height), where the resize is in the graph; None: it is done here.
    """

    preprocessing: Preprocessing
    frame: tuple[int, int] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """[3, H, W] of what the graph takes."""
        if self.frame is not None:
            width, height = self.frame
            return 3, height, width
        return 3, self.preprocessing.height, self.preprocessing.width

    @property
    def picture_bytes(self) -> int:
        """Of a prepared picture."""
        return int(np.prod(self.shape))

    def prepare(self, data: bytes, source: str) -> npt.NDArray[np.uint8]:
        """Bytes of a picture -> uint8 [3, H, W].

        Raises:
            ImageError: it cannot be decoded, or has not the size that the graph takes.
        """
        if self.frame is not None:
            return prepare_frame(data, self.preprocessing, self.frame, source)
        return prepare(data, self.preprocessing, source)
