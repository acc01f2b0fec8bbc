"""Install the wheel into a clean environment, plain and with each extra alone, and use it.

    python scripts/try_packaging.py [NAME ...] [--pip] [--once]

NAME is `plain` or an extra; without one, all. Each gets a virtual environment of its own, for which
`taxon-vision[NAME]` is resolved from nothing, and an empty folder, in which run: `pip check`,
`taxon doctor`, `taxon demo --quick`, and what CHECKS says of the extra. uv installs: its files are
links into its cache, so that torch costs no seconds and no disk each time. With --pip it is pip,
as most people have it: a minute and 6 GB each. With --once the demo runs in the plain environment
alone, and the others use its model. Ends with 1 where one failed.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
import venv
from dataclasses import asdict, dataclass
from pathlib import Path

from environments import Failed, make_environment, own_uv, run_in

ROOT = Path(__file__).parents[1]
PLAIN = "plain"
MODEL = "demo/model"
# Of the environment, and not of a tree of sources.
INSTALLED = "import sys, taxon; assert taxon.__file__.startswith(sys.prefix), taxon.__file__"
# A training that shows that something works, not how well.
TRAIN = "taxon train demo/defects --weights none --epochs 1 --set preprocessing.size=32"

GRPC = """
import re, subprocess, grpc
from taxon.serving.grpc.schema import MESSAGES, SERVICE
server = subprocess.Popen(
    ["taxon", "serve", "demo/model", "--port", "0", "--grpc-port", "0"],
    stdout=subprocess.PIPE, text=True)
try:
    said = (re.search(r"gRPC .*: (\\S+)$", line) for line in server.stdout)
    address = next(found[1] for found in said if found)
    ready = grpc.insecure_channel(address).unary_unary(f"/{SERVICE}/ServerReady")
    answer = ready(b"", timeout=60)
    assert MESSAGES["ServerReadyResponse"].FromString(answer).ready
finally:
    server.terminate()
    server.wait(60)
"""
HEIC = """
import pillow_heif
from pathlib import Path
from PIL import Image
picture = Image.open(next(Path("demo/defects").glob("*/*.jpg")))
pillow_heif.from_pillow(picture).save("photo.heic")
"""
PIPELINE = """
import json, albumentations
pipeline = albumentations.Compose([albumentations.HorizontalFlip(p=0.5)])
json.dump(albumentations.to_dict(pipeline), open("pipeline.json", "w"))
"""
RAY = """
import ray, ray.data, ray.serve, ray.train, ray.train.torch, fsspec
ray.init(num_cpus=1, include_dashboard=False)
assert ray.data.range(8).map_batches(lambda batch: {"id": batch["id"] + 1}).sum("id") == 36
"""
FAISS = """
import faiss, numpy as np
rows = np.eye(4, dtype=np.float32)
index = faiss.IndexFlatIP(4)
index.add(rows)
assert index.search(rows, 1)[1].ravel().tolist() == [0, 1, 2, 3]
"""


def python(program: str) -> str:
    """The command that runs a program."""
    return shlex.join(["python", "-c", program])


HEALTH = ("python -m pip check", python(INSTALLED))


@dataclass(frozen=True)
class Check:
    """How to use what an extra brings.

    Attributes:
        commands: each must end with 0.
        makes: patterns of files, below the folder, which are there afterwards.
        says: words that are in what the commands print, or in the report of the demo's model.
    """

    commands: tuple[str, ...]
    makes: tuple[str, ...] = ()
    says: str = ""


CHECKS = {
    PLAIN: Check((f"taxon export {MODEL} --to onnx-int8,torch-export,triton --out exported",)),
    "albumentations": Check(
        (
            python(PIPELINE),
            f"{TRAIN} --out rare --imbalance oversample "
            "--set imbalance.oversample_pipeline=pipeline.json",
        )
    ),
    "coreml": Check((f"taxon export {MODEL} --to coreml,coreml-fp16 --out exported",)),
    "executorch": Check((f"taxon export {MODEL} --to executorch --out exported",)),
    "explain": Check((f"taxon evaluate {MODEL}",), says="Grad-CAM"),
    "figures": Check((f"taxon evaluate {MODEL}",), makes=(f"{MODEL}/report/figures/*.png",)),
    "grpc": Check((python(GRPC),)),
    "heic": Check((python(HEIC), f"taxon predict {MODEL} photo.heic")),
    "mlflow": Check((f"{TRAIN} --out watched --track mlflow",), makes=("tracking/**/*.db",)),
    "openvino": Check((f"taxon export {MODEL} --to openvino,openvino-int8 --out exported",)),
    "ray": Check((python(RAY),)),
    "search": Check((python(FAISS),)),
    "tensorboard": Check(
        (f"{TRAIN} --out watched --track tensorboard",), makes=("tracking/**/events.*",)
    ),
    "tflite": Check((f"taxon export {MODEL} --to tflite --out exported",)),
    # TorchServe itself needs Java; the tests start it.
    "torchserve": Check(
        (f"taxon export {MODEL} --to torchserve --out exported", python("import ts"))
    ),
    "yolo": Check((f"{TRAIN} --out yolo --model yolo11n-cls",)),
}


@dataclass(frozen=True)
class Outcome:
    """What became of one installation; the times are seconds."""

    name: str
    problem: str
    install_s: float
    demo_s: float
    checks_s: float
    packages: int


def build(out: Path) -> Path:
    """Build the sdist, and the wheel from it; return the wheel."""
    shutil.rmtree(out, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "build", "--outdir", str(out), str(ROOT)], check=True)
    (wheel,) = out.glob("*.whl")
    return wheel


def try_one(name: str, wheel: Path, work: Path, uv: Path | None, demo: Path | None) -> Outcome:
    """Install one, by uv or else by pip, and use it.

    Args:
        demo: of another environment, which is copied; None: it runs in this one.
    """
    folder = work / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if demo is not None:
        shutil.copytree(demo, folder / "demo")
    environment, log = work / "environment", folder / "log.txt"
    shutil.rmtree(environment, ignore_errors=True)
    times, problem = [0.0, 0.0, 0.0], ""
    path = () if demo is not None else ("taxon demo --quick",)
    steps = ((*HEALTH, "taxon doctor", *path), CHECKS[name].commands)
    try:
        start = time.perf_counter()
        _install(str(wheel) if name == PLAIN else f"{wheel}[{name}]", environment, log, uv)
        times[0] = time.perf_counter() - start
        for step, commands in enumerate(steps, start=1):
            start = time.perf_counter()
            for command in commands:
                run_in(environment, command, folder, log)
            times[step] = time.perf_counter() - start
        _require_result(CHECKS[name], folder)
    except (Failed, subprocess.CalledProcessError) as error:
        problem = str(error)
    packages = len(list(environment.glob("lib/*/site-packages/*.dist-info")))
    return Outcome(name, problem, *times, packages)


def _install(target: str, environment: Path, log: Path, uv: Path | None) -> None:
    if uv is not None:
        make_environment(uv, environment, [target])
        return
    venv.create(environment, with_pip=True)
    # The pip that comes with Python 3.11 takes a minute longer to resolve all this. What nobody
    # imports need not be compiled.
    for words in (["--upgrade", "pip"], ["--no-compile", target]):
        run_in(environment, ["python", "-m", "pip", "install", "--quiet", *words], log.parent, log)


def _require_result(check: Check, folder: Path) -> None:
    missing = [pattern for pattern in check.makes if not any(folder.glob(pattern))]
    if missing:
        raise Failed(f"nothing was written to {', '.join(missing)}")
    report = folder / MODEL / "report" / "report.html"
    if check.says not in report.read_text(encoding="utf-8"):
        raise Failed(f"the report says nothing of {check.says}")


def table(outcomes: list[Outcome]) -> str:
    """The outcomes as a table in Markdown."""
    head = ("install", "works", "packages", "install s", "demo s", "checks s")
    rows = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for each in outcomes:
        words = each.problem or "yes"
        times = (each.install_s, each.demo_s, each.checks_s)
        figures = " | ".join(f"{seconds:.0f}" for seconds in times)
        rows.append(f"| {each.name} | {words} | {each.packages} | {figures} |")
    return "\n".join(rows)


def main() -> None:
    """Try what was named."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = [PLAIN, *(name for name in project["optional-dependencies"] if name != "dev")]
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(known))
    parser.add_argument("--work", type=Path, default=ROOT / ".packaging")
    parser.add_argument("--dist", type=Path, help="with the wheel; without it, both are built")
    parser.add_argument("--pip", action="store_true", help="install with pip, and not with uv")
    parser.add_argument("--once", action="store_true", help="run the demo in the plain one alone")
    given = parser.parse_args()
    unknown = sorted(set(given.names) - set(known))
    if unknown:
        parser.error(f"no extra is called {', '.join(unknown)}; allowed: {', '.join(known)}")
    work = given.work.resolve()
    wheel = next(given.dist.resolve().glob("*.whl")) if given.dist else build(work / "dist")
    uv = None if given.pip else own_uv(work)
    outcomes: list[Outcome] = []
    for name in given.names or known:
        demo = work / PLAIN / "demo" if given.once and name != PLAIN else None
        outcomes.append(try_one(name, wheel, work, uv, demo))
        print(table(outcomes[-1:]).splitlines()[-1], flush=True)
    shutil.rmtree(work / "environment")
    (work / "results.json").write_text(json.dumps([asdict(each) for each in outcomes], indent=2))
    print(f"\n{table(outcomes)}")
    failed = [each.name for each in outcomes if each.problem]
    sys.exit(f"failed: {', '.join(failed)}; see {work}/NAME/log.txt" if failed else 0)


if __name__ == "__main__":
    main()
