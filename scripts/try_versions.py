"""Run tests with the oldest versions that pyproject.toml allows, or with the newest that there are.

    python scripts/try_versions.py minimum|newest [TEST ...] [--work .versions] [--keep]

minimum: what a plain install needs, and those extras that ask for nothing newer of it, each at the
lower end of its range; what they need in turn is as new as fits. newest: all extras, and no
constraints.txt. The tools of the tests are those of constraints.txt in both. Prints the versions
that differ from what was asked for, and ends as pytest does. Without TEST: a part of the suite that
reaches every layer in minutes. Linux, and the network for the first time.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from environments import Failed, make_environment, own_uv, run_in
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
# With these, more than their own packages would be newer than the oldest: pydantic, numpy and
# scikit-learn, filelock and platformdirs, httpx.
NOT_OLDEST = ("albumentations", "executorch", "ray", "yolo")
# What the tests below import; the lists of the extra `dev` hold much more.
TOOLS = (
    "geventhttpclient",
    "httpx2",
    "hypothesis",
    "jsonschema",
    "playwright",
    "psutil",
    "pytest",
    "tritonclient",
)
TESTS = (
    *("core", "config", "decision", "bundle", "sources", "splits", "preprocessing", "loader"),
    *("metrics", "models", "serving", "serving_v2", "grpc", "client", "samples", "surface"),
    *("end_to_end", "export", "evaluation", "trackers", "policy_fit", "slices"),
)


def requirements(which: str) -> list[str]:
    """The requirements to resolve, as lines."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    left_out = ("dev", *(NOT_OLDEST if which == "minimum" else ()))
    extras = project["optional-dependencies"]
    lines = list(project["dependencies"])
    lines += [line for name, needs in extras.items() if name not in left_out for line in needs]
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return lines + [line for line in pinned if line.partition("==")[0] in TOOLS]


def oldest(line: str) -> str | None:
    """The lower end of a requirement's range, where it has one."""
    ends = [each.version for each in Requirement(line).specifier if each.operator in (">=", "==")]
    return max(ends, default=None)


def installed(environment: Path) -> dict[str, str]:
    """Name -> version of what is installed."""
    command = [environment / "bin" / "python", "-m", "pip", "list", "--format", "json"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {each["name"].lower().replace("_", "-"): each["version"] for each in json.loads(said)}


def main() -> None:
    """Make the environment, say what is in it, run the tests."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("which", choices=("minimum", "newest"))
    parser.add_argument("tests", nargs="*", default=[f"tests/test_{name}.py" for name in TESTS])
    parser.add_argument("--work", type=Path, default=ROOT / ".versions")
    parser.add_argument("--keep", action="store_true", help="use the environment that is there")
    given = parser.parse_args()
    work = given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    environment, wanted = work / given.which, work / f"{given.which}.txt"
    lines = requirements(given.which)
    wanted.write_text("\n".join(lines) + "\n")
    if not (given.keep and environment.exists()):
        uv = own_uv(work)
        end = ["--resolution", "lowest-direct"] if given.which == "minimum" else []
        make_environment(uv, environment, [*end, "--requirements", wanted])
        python = environment / "bin" / "python"
        editable = ["--no-deps", "--editable", ROOT]
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *editable], check=True)
    found = installed(environment)
    for line in lines:
        name = Requirement(line).name.lower()
        version, asked = found.get(name, "absent"), oldest(line)
        same = asked is not None and f"{version}.0.0".startswith(f"{asked}.")
        if given.which == "newest" or not same:
            print(f"{line:40} {version}")
    log = work / f"{given.which}.log"
    log.unlink(missing_ok=True)
    try:
        run_in(environment, ["python", "-m", "pytest", "-q", *given.tests], ROOT, log)
    except Failed as error:
        sys.exit(f"{error}; see {log}")
    finally:
        print(*log.read_text(encoding="utf-8").splitlines()[-30:], sep="\n")
        if not given.keep:
            shutil.rmtree(environment)


if __name__ == "__main__":
    main()
