"""`python -m taxon` with the quick exporter, for trainings of whose artefact nothing is asked."""

from __future__ import annotations

import sys

from quick_exporter import quick_exporter

from taxon.cli.main import run

if __name__ == "__main__":
    with quick_exporter():
        sys.exit(run(sys.argv[1:]))
