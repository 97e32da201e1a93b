"""The annotation server as a process of its own, to be killed; shared by tests."""

import os
import signal
import subprocess
import sys
from pathlib import Path

STARTED: list[subprocess.Popen[str]] = []


def stop_all() -> None:
    """End what a failed test left running."""
    while STARTED:
        process = STARTED.pop()
        process.kill()
        process.communicate()


def start(study: Path, *arguments: str) -> tuple[subprocess.Popen[str], str]:
    """A server process of its own, and its address once it listens."""
    command = [sys.executable, "-m", "meadowlark", "annotate", *arguments]
    process = subprocess.Popen(
        [*command, "--out", str(study), *(() if "--port" in command else ("--port", "0"))],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    STARTED.append(process)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("listening on "):
            return process, line.split()[2].rstrip(".")
    raise AssertionError(f"the server ended with {process.wait()}")


def kill(process: subprocess.Popen[str], number: signal.Signals) -> str:
    """Send a signal, wait for the end; what it still printed."""
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    STARTED.remove(process)
    return out
