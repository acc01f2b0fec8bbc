"""Start a real Triton Inference Server on a repository of `taxon export --to triton`, and ask it.

    python scripts/try_triton.py exported/triton [--environment .triton]

The server is the one in NVIDIA's package nvidia-pytriton, which has Triton's core, its scheduler
and its HTTP front, but of the backends only that for Python. So the repository is served as it is,
by a backend called `onnxruntime` of a few lines that runs the ONNX with the same library. Proven
are the configuration, the labels, the batching and the answers; not the C++ backend of NVIDIA's
container. Linux on x86-64, glibc 2.35 or newer; no GPU is needed. Ends with 1 where an answer
differs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt

from taxon.bundle.artefact import read_artefact
from taxon.inference.triton import open_repository

PACKAGES = ("nvidia-pytriton==0.7.0", "onnxruntime", "numpy<2")
PICTURES = 64
TOLERANCE = 1e-4
# Triton looks for a backend's model.py where it has no library of that name.
STAND_IN = """
import json
from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        folder = Path(args["model_repository"]) / args["model_version"]
        self.input = config["input"][0]["name"]
        self.outputs = config["output"]
        self.session = onnxruntime.InferenceSession(folder / config["default_model_filename"])

    def execute(self, requests):
        parts = [triton.get_input_tensor_by_name(each, self.input).as_numpy() for each in requests]
        names = [output["name"] for output in self.outputs]
        results = self.session.run(names, {self.input: np.concatenate(parts)})
        places = np.cumsum([len(part) for part in parts])[:-1]
        rows = zip(*(np.split(result, places) for result in results))
        return [
            triton.InferenceResponse([triton.Tensor(*each) for each in zip(names, row)])
            for row in rows
        ]
"""


def main() -> None:
    """Install what is missing, start the server, ask it from many threads, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("repository", type=Path, help="what `taxon export --to triton` wrote")
    parser.add_argument("--environment", type=Path, default=Path(".triton"))
    arguments = parser.parse_args()
    info = read_artefact(arguments.repository)
    size = info.spec.preprocessing
    images = np.random.default_rng(0).integers(
        0, 256, (PICTURES, 1, 3, size.height, size.width), dtype=np.uint8
    )
    expected = open_repository(arguments.repository / info.file).run(images[:, 0])
    with _server(arguments.repository, _environment(arguments.environment.resolve())) as address:
        url = f"{address}/v2/models/{info.file}"
        with httpx.Client(timeout=60) as client, ThreadPoolExecutor(16) as threads:
            answers = list(threads.map(lambda image: _ask(client, url, image), images))
            label = _label(client, url, images[0])
            statistics = client.get(f"{url}/stats").json()["model_stats"][0]
    difference = np.abs(np.concatenate(answers) - expected.probabilities).max()
    batches = {int(each["batch_size"]): each for each in statistics["batch_stats"]}
    counts = {size: int(batches[size]["compute_infer"]["count"]) for size in sorted(batches)}
    named = info.spec.label_space.names[int(expected.probabilities[0].argmax())]
    print(f"largest difference of {PICTURES} pictures: {difference:.1e} (allowed {TOLERANCE:.0e})")
    print(f"batches, size: times  {counts}")
    print(f"label of the first picture: {label}; the model names {named}")
    if not difference <= TOLERANCE or label != named or max(counts) == 1:
        sys.exit("Triton does not answer as the model does, or gathers no batches")


def _environment(folder: Path) -> Path:
    """An environment with the server, made once."""
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        print(f"installing {', '.join(PACKAGES)} into {folder}")
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        (folder / "ready").touch()
    return folder


@contextmanager
def _server(repository: Path, environment: Path) -> Iterator[str]:
    """Run Triton on a repository; gives its address."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    packages = environment / "lib" / f"python{version}" / "site-packages"
    server = packages / "pytriton" / "tritonserver"
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="taxon-") as folder:
        backends = Path(folder)
        shutil.copytree(server / "backends" / "python", backends / "python")
        stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
        shutil.copy(stub, backends / "python")
        (backends / "onnxruntime").mkdir()
        (backends / "onnxruntime" / "model.py").write_text(STAND_IN)
        libraries = [sysconfig.get_config_var("LIBDIR"), str(packages / "nvidia_pytriton.libs")]
        command: list[str | Path] = [
            server / "bin" / "tritonserver",
            f"--model-repository={repository.resolve()}",
            f"--backend-directory={backends}",
            f"--http-port={port}",
            "--allow-grpc=false",
            "--allow-metrics=false",
        ]
        log = backends / "server.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={
                    **os.environ,
                    "PATH": f"{environment / 'bin'}:{os.environ['PATH']}",
                    "PYTHONPATH": str(packages),
                    "LD_LIBRARY_PATH": ":".join(libraries),
                },
            )
        try:
            address = f"http://127.0.0.1:{port}"
            _wait(address, process, log)
            yield address
        finally:
            process.terminate()
            process.wait(timeout=60)


def _wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(240):
        try:
            if httpx.get(f"{address}/v2/health/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        if process.poll() is not None:
            break
        time.sleep(0.25)
    sys.exit(f"Triton did not start:\n{log.read_text()[-4000:]}")


def _ask(client: httpx.Client, url: str, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """The probabilities of uint8 [1, 3, H, W], float32 [1, C]."""
    output = _infer(client, url, image, {"name": "probabilities"})
    return np.array(output["data"], np.float32).reshape(output["shape"])


def _label(client: httpx.Client, url: str, image: npt.NDArray[np.uint8]) -> str:
    """What Triton itself calls the most probable class: `probability:index:label`."""
    wanted = {"name": "probabilities", "parameters": {"classification": 1}}
    return str(_infer(client, url, image, wanted)["data"][0]).split(":", 2)[2]


def _infer(client: httpx.Client, url: str, image: npt.NDArray[np.uint8], wanted: Any) -> Any:
    """Send a tensor as bytes behind the JSON, and return the output that is wanted."""
    tensor = {
        "name": "images",
        "shape": image.shape,
        "datatype": "UINT8",
        "parameters": {"binary_data_size": image.nbytes},
    }
    head = json.dumps({"inputs": [tensor], "outputs": [wanted]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    answer = client.post(f"{url}/infer", content=head + image.tobytes(), headers=headers)
    answer.raise_for_status()
    return answer.json()["outputs"][0]


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


if __name__ == "__main__":
    main()
