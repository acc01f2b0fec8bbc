"""Libraries that report how they are used do not, when taxon imports them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_no_library_keeps_a_store_of_what_it_would_report(tmp_path: Path) -> None:
    # In CI they are silent by themselves.
    told = ("CI", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in told}
    subprocess.run(
        [
            *(sys.executable, "-c"),
            "import taxon.inference.onnx_runtime, taxon.inference.openvino; import openvino",
        ],
        check=True,
        env={**environment, "HOME": str(tmp_path)},
    )
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
