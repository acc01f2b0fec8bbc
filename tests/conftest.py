"""Fixtures: small generated data sets, models trained on them, a server, and real pictures."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hypothesis
import pytest
from browsing import running_browser
from fastapi.testclient import TestClient
from filelock import FileLock
from quick_exporter import quick_exporter, real_exporter
from serving_apps import MeanColour, app_of, make_predictor

import taxon
from taxon.api import artefact_checks, training
from taxon.api.features import ensure_features
from taxon.data.samples import generate_samples
from taxon.serving import ServingSettings
from taxon.serving.logs import SERVER_LOGGERS, PatientHandler

# No test may wait for a hub: what needs one must fail at once, here as on a closed network.
os.environ["HF_HUB_OFFLINE"] = "1"
# No test may leave anything in the user's cache, nor find anything there.
_CACHE = tempfile.TemporaryDirectory(prefix="taxon-cache-")
# But for the converter of TFLite, which takes half a minute to install: once, and where the set-up
# would put it, in the virtual environment or the cache that is named.
_CONVERTERS = Path(os.environ.get("TAXON_CACHE") or sys.prefix) / "converters"
_CONVERTERS.mkdir(parents=True, exist_ok=True)
(Path(_CACHE.name) / "converters").symlink_to(_CONVERTERS.resolve())
os.environ["TAXON_CACHE"] = _CACHE.name
os.environ["YOLO_CONFIG_DIR"] = _CACHE.name  # Ultralytics writes its settings when it is imported

# How fast a machine makes examples, and passes them, says nothing of the code.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")

ROOT = Path(__file__).parents[1]
TINY_BACKBONE = "test_convnext"
# Files that take long. A worker takes files in the order of their tests: one of these, begun last,
# would have the other worker wait for it.
LONG = (
    "test_tflite.py",
    "test_cli.py",
    "test_ray.py",
    "test_distributed.py",
    "test_resume.py",
    "test_readme.py",
    "test_end_to_end.py",
    "test_distillation.py",
    "test_frozen_features.py",
    "test_audit_command.py",
    "test_guides.py",
    "test_yolo.py",
    "test_trackers.py",
    "test_training.py",
    "test_framing.py",
    "test_unknown_tags.py",
    "test_imbalance.py",
    "test_export.py",
    "test_export_formats.py",
    "test_torchserve.py",
    "test_runner.py",
    "test_coreml.py",
    "test_triton.py",
    "test_benchmark.py",
    "test_serving_faults.py",
    "test_page.py",
    "test_page_races.py",
    "test_tritonclient.py",
)
# Files that are about what is exported. In all others the exporter is a quick one; what runs as a
# process of its own (the command line) has the real one too.
ABOUT_EXPORTS = (
    "test_export.py",
    "test_export_formats.py",
    "test_layer_choice.py",
    "test_end_to_end.py",
    "test_backbones.py",
    "test_tflite.py",
    "test_torchserve.py",
    "test_coreml.py",
    "test_triton.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take long first; each keeps the order of its tests."""
    order = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.name, len(LONG)))


@pytest.fixture(scope="module", autouse=True)
def exporter(request: pytest.FixtureRequest) -> Iterator[None]:
    """The real exporter where a file is about exports, else the quick one."""
    with real_exporter() if request.path.name in ABOUT_EXPORTS else quick_exporter():
        yield


@pytest.fixture(autouse=True)
def no_server_logs() -> Iterator[None]:
    """What `taxon serve` sets up in this process writes no lines among pytest's own; and what a
    library switched off in an earlier test of this process says something again."""
    logging.disable(logging.NOTSET)
    logging.root.setLevel(logging.WARNING)
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and name.split(".")[0] == "taxon":
            logger.disabled, logger.propagate, logger.filters = False, True, []
            logger.setLevel(logging.NOTSET)
    logging.root.disabled, logging.root.filters = False, []
    yield
    for name in ("", *SERVER_LOGGERS):
        logger = logging.getLogger(name)
        for handler in list(logger.handlers):
            if isinstance(handler, PatientHandler):
                logger.removeHandler(handler)
                handler.close()
        logger.propagate = True


@pytest.fixture
def quickly_exported() -> Iterator[None]:
    """A test in such a file that asks nothing of what the exporter writes."""
    with quick_exporter():
        yield


@pytest.fixture(scope="session", autouse=True)
def quick_timing() -> Iterator[None]:
    """How long a second of timing takes says nothing about the code: a moment will do."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(artefact_checks, "SECONDS", 0.05)
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real pictures and weights, which lie beside the project on some machines."""
    folder = ROOT.parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip("needs ../shared (real pictures and weights)")
    return folder


class Once:
    """Folders that one worker makes, and all read: none may be written into."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        own = factory.getbasetemp()
        self.root = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def made(self, name: str, make: Callable[[Path], object]) -> Path:
        """The folder, its last part the one of `name`; where it is being made, wait for it."""
        folder = self.root / "shared" / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        done = folder.with_suffix(".done")
        with FileLock(folder.with_suffix(".lock")):
            if not done.exists():
                make(folder)
                done.touch()
        return folder


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """What the workers share."""
    return Once(tmp_path_factory)


@pytest.fixture(scope="session")
def defects(once: Once) -> Path:
    """A small multi-class set in class folders."""
    return once.made("data/defects", lambda to: generate_samples("defects", to, size=64, count=180))


@pytest.fixture(scope="session")
def few(once: Once) -> Path:
    """Half as many, for tests that train several times."""
    return once.made("few/defects", lambda to: generate_samples("defects", to, size=64, count=90))


@pytest.fixture(scope="session")
def tags(once: Once) -> Path:
    """A small multi-label set with a table."""
    return once.made("data/tags", lambda to: generate_samples("tags", to, size=64, count=120))


@pytest.fixture(scope="session")
def surfaces(once: Once) -> Path:
    """A small taxonomy in nested folders."""
    return once.made(
        "data/surfaces", lambda to: generate_samples("taxonomy", to, size=64, count=120)
    )


def train_tiny(data: Path, out: Path, *, seed: int = 0, epochs: int = 2) -> taxon.Model:
    """Train a tiny network from random weights: a real run, in seconds."""
    return taxon.train(
        data,
        out=out,
        model=TINY_BACKBONE,
        weights="none",
        epochs=epochs,
        seed=seed,
        overrides=["preprocessing.size=32"],
        device="cpu",
    )


@pytest.fixture(scope="session")
def run(defects: Path, once: Once) -> Path:
    """A trained multi-class model folder, evaluated; do not write into it."""

    def make(folder: Path) -> None:
        with real_exporter():
            train_tiny(defects, folder).evaluate(explain=False)

    return once.made("runs/defects-model", make)


@pytest.fixture(scope="session")
def tags_run(tags: Path, once: Once) -> Path:
    """A trained multi-label model folder; do not write into it."""
    with real_exporter():
        return once.made("runs/tags-model", lambda folder: train_tiny(tags, folder))


@pytest.fixture(scope="session")
def surfaces_run(surfaces: Path, once: Once) -> Path:
    """A trained taxonomy model folder; do not write into it."""
    with quick_exporter():
        return once.made("runs/surfaces-model", lambda folder: train_tiny(surfaces, folder))


@pytest.fixture(scope="session")
def features_run(run: Path, once: Once) -> Path:
    """The multi-class model folder with the artefact that gives features; do not write into it."""

    def make(folder: Path) -> None:
        shutil.copytree(run, folder)
        with quick_exporter():
            ensure_features(folder)

    return once.made("features/defects-model", make)


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[Path], Path]:
    """Return a function that copies a model folder, for tests that alter it."""

    def copy(folder: Path) -> Path:
        return Path(shutil.copytree(folder, tmp_path / folder.name))

    return copy


@contextmanager
def exports_left_out() -> Iterator[None]:
    """For trainings whose weights are looked at: exporting them would take most of the time."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(training, "export_own_onnx", lambda run: SimpleNamespace(parity=()))
        # It asks the artefact.
        patched.setattr(training, "write_calibration_reference", lambda run, manifest: None)
        yield


@pytest.fixture
def backend() -> MeanColour:
    """The small fake model that `client` asks."""
    return MeanColour()


@pytest.fixture
def client(backend: MeanColour) -> Iterator[TestClient]:
    """A client of an application around `backend`, in this process."""
    app = app_of(make_predictor(backend), settings=ServingSettings(max_body_bytes=100_000))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium, for the tests of one file."""
    with running_browser() as browser:
        yield browser


@pytest.fixture
def without_export() -> Iterator[None]:
    """A test all of whose trainings are without export."""
    with exports_left_out():
        yield
