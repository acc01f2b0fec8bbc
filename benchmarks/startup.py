"""Start-up: `taxon COMMAND --help` for every command, and `taxon serve RUN` until it answers.

python benchmarks/startup.py [--run RUN] [--repeats 5]
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import time
import urllib.request

COMMANDS = (
    "demo sample-data audit split train evaluate predict export verify serve models doctor".split()  # noqa: SIM905
)


def seconds(arguments: list[str]) -> float:
    """Run `python -m taxon` with these arguments."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "taxon", *arguments], check=True, capture_output=True)
    return time.perf_counter() - start


def until_ready(run: str) -> float:
    """Start the server and ask its readiness route once it has printed its address."""
    start = time.perf_counter()
    command = [sys.executable, "-u", "-m", "taxon", "serve", run, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found is not None
        with urllib.request.urlopen(f"{found.group()}/v2/health/ready") as answer:
            assert answer.status == 200
        elapsed = time.perf_counter() - start
        process.terminate()
    return elapsed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    bare = statistics.median([_python_alone() for _ in range(options.repeats)])
    print(f"| | seconds, median of {options.repeats} |\n|---|---|")
    print(f"| `python -c pass` | {bare:.2f} |")
    for command in ("", *COMMANDS):
        arguments = [*command.split(), "--help"]
        times = [seconds(arguments) for _ in range(options.repeats)]
        print(f"| `taxon {' '.join(arguments)}` | {statistics.median(times):.2f} |", flush=True)
    if options.run:
        times = [until_ready(options.run) for _ in range(options.repeats)]
        print(f"| `taxon serve RUN` until ready | {statistics.median(times):.2f} |")


def _python_alone() -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
