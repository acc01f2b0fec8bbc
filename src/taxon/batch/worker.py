"""The program of a computing process of a job; the engine starts it and talks to it."""

from __future__ import annotations

import os
import pickle
import signal
import sys

from taxon.batch.compute import Computer, Task
from taxon.batch.processes import receive, send
from taxon.core.errors import TaxonError, reason_of


def main() -> None:
    """Open the model that the first message names, then answer until nobody asks any more."""
    # Ctrl-C reaches all processes of a terminal; the engine ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # Whatever a library prints must not stand among the answers.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    questions = sys.stdin.buffer
    task: Task | None = None
    computer: Computer | None = None
    while True:
        try:
            message = receive(questions)
        except EOFError:
            return
        try:
            if task is None or computer is None:
                task = message
                computer = task.open()
                send(answers, None)
            else:
                send(answers, task.rows(message, computer))
        except BrokenPipeError:
            return
        except Exception as error:  # told to the engine, which asked
            send(answers, _told(error))


def _told(error: Exception) -> Exception:
    """An error that can be sent."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever a library's error refuses with
        return TaxonError(reason_of(error))
    return error


if __name__ == "__main__":
    main()
