"""Running the binary: its answer, its progress, its failures."""

from __future__ import annotations

import json
import logging
import queue
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, TypeAlias

from . import errors
from .binary import find
from .results import Progress

OnProgress: TypeAlias = Callable[[Progress], object]

logger = logging.getLogger("shardfuse")

KEPT = 20
"""Lines of stderr that the error of a binary without an answer shows."""


def run(arguments: Sequence[str], *, stdin: str | None = None, on_progress: OnProgress | None = None) -> dict[str, Any]:
    """Runs a command to its end and returns its answer.

    ``on_progress`` is called in this thread. If it raises, or the thread is interrupted (Ctrl-C), the command is asked to
    stop, its end is waited for, and the exception goes on; a second Ctrl-C ends the command at once.
    """
    shown = ["--quiet"] if on_progress is None else ["--progress=json"]
    formats = ["--format=json", "--error-format=json", "--log-format=json"]
    with _started([str(find()), *formats, *shown, *arguments]) as process:
        answer: list[bytes] = []
        lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        readers = [
            threading.Thread(target=lambda: answer.append(_stream(process.stdout).read()), daemon=True),
            threading.Thread(target=_forward, args=(_stream(process.stderr), lines), daemon=True),
        ]
        for reader in readers:
            reader.start()
        _feed(_stream(process.stdin), stdin or "")
        failure, last = _listen(lines, on_progress)
        readers[0].join()
        code = process.wait()
    if code == 0:
        return _object(b"".join(answer), last)
    if failure is not None:
        raise errors.of(str(failure.get("kind")), str(failure.get("message")), failure.get("hint"), code)
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    raise errors.InternalError("\n".join([f"the binary ended with {how} and told no error", *last]), "internal")


@contextmanager
def _started(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process of a group of its own: a terminal's Ctrl-C reaches this process alone, which then asks the other to stop."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, process_group=0)
    try:
        yield process
    except BaseException:
        _stop(process)
        raise
    finally:
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None and process.poll() is not None:
                stream.close()


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Asks it to stop and waits. Interrupted again, asks again, which ends it at once."""
    process.terminate()
    while True:
        try:
            process.wait()
            return
        except KeyboardInterrupt:
            process.terminate()


def _stream(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None, "every stream is a pipe"
    return stream


def _feed(stream: IO[bytes], text: str) -> None:
    """Writes what the command reads. One that refuses its flags reads nothing."""
    try:
        stream.write(text.encode())
        stream.close()
    except BrokenPipeError:
        pass


def _forward(stream: IO[bytes], lines: queue.SimpleQueue[str | None]) -> None:
    for line in stream:
        lines.put(line.decode(errors="replace").rstrip("\n"))
    lines.put(None)


def _listen(
    lines: queue.SimpleQueue[str | None], on_progress: OnProgress | None
) -> tuple[dict[str, Any] | None, list[str]]:
    """Hands progress on and logs the rest, until stderr ends. The error that was told, and the last other lines."""
    failure: dict[str, Any] | None = None
    last: deque[str] = deque(maxlen=KEPT)
    while (line := lines.get()) is not None:
        told = _parsed(line)
        if told is not None and isinstance(told.get("progress"), dict):
            if on_progress is not None:
                on_progress(Progress.of(told["progress"]))
        elif told is not None and isinstance(told.get("error"), dict):
            failure = told["error"]
        else:
            last.append(line)
            _log(line, told)
    return failure, list(last)


def _log(line: str, told: dict[str, Any] | None) -> None:
    """A log line at its level; what is none is a remark for people."""
    level = logging.getLevelNamesMapping().get(str((told or {}).get("level")), logging.INFO)
    logger.log(level, "%s", line if told is None else told.get("message", line), extra={"shardfuse": told})


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _object(answer: bytes, last: list[str]) -> dict[str, Any]:
    value = _parsed(answer.decode(errors="replace"))
    if value is None:
        raise errors.InternalError("\n".join(["the binary's answer is no JSON object", *last]), "internal")
    return value
