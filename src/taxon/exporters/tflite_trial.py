"""Try a quantised file out, in a process of its own: some end the process that runs them.

python -m taxon.exporters.tflite_trial FILE PICTURES OUTPUTS
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from taxon.core.errors import BundleError
from taxon.exporters.converter_environment import failure_reason
from taxon.exporters.parity import run_all
from taxon.inference import Outputs
from taxon.inference.litert import LiteRtBackend


def try_file(file: Path, pictures: Path) -> Outputs:
    """Return what a file answers.

    Args:
        pictures: a .npy file, uint8 [K, 3, H, W].

    Raises:
        BundleError: LiteRT cannot run it.
    """
    with tempfile.TemporaryDirectory(prefix="taxon-") as folder:
        outputs = Path(folder) / "outputs.npz"
        done = subprocess.run(
            [sys.executable, "-P", "-m", __name__, str(file), str(pictures), str(outputs)],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode:
            raise BundleError(failure_reason(done))
        with np.load(outputs) as values:
            return Outputs(*(values[name] for name in values.files))


def main(file: str, pictures: str, outputs: str) -> None:
    """Run a file on all pictures."""
    answers = run_all(LiteRtBackend(Path(file)), np.load(pictures))
    scope = [] if answers.scope is None else [answers.scope]
    np.savez(outputs, answers.logits, answers.probabilities, *scope)


if __name__ == "__main__":
    main(*sys.argv[1:])
