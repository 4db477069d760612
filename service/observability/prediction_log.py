"""The prediction log: JSON lines with the inputs and outputs of predictions, to compare with true values later.

A request only puts its data into a queue. A thread turns the data into lines and writes them. No request
waits for the file or its reader: rows that the queue cannot take are dropped and counted.
"""

import csv
import errno
import fcntl
import os
import random
import select
import stat
import struct
import termios
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from service.artifact.contract import Contract, answer_member
from service.artifact.reader import Artifact
from service.columns import Columns, PackedColumns, by_feature, n_packed_rows, pack, unpack
from service.observability import metric_definitions
from service.observability.logging import STANDARD_OUTPUT, log_message
from service.observability.metrics import Metrics
from service.settings import Settings, SettingsError

TO_STANDARD_OUTPUT = "-"
ALL_FEATURES = "*"
FILE_MODE = 0o640  # inputs may be secrets
# A pipe never mixes so many bytes with the writes of other processes (POSIX). Longer requests become several lines,
# which collectors of logs like better, too.
LINE_BYTES = select.PIPE_BUF
FULL_PIPE = 0.25  # of a pipe; the rest is for the lines of requests, whose queue is much shorter than this one
QUEUE_BYTES = 16 * 1024**2
PREDICTION_BYTES = 600  # what a prediction takes in the queue beside its cells and numbers
WAKE_SECONDS = 0.1  # waking the writer up for each request would cost the request more than all else here
ROOM_SECONDS = 0.01
CLOSE_SECONDS = 1.5  # in which the queue is emptied at the end


class Prediction(NamedTuple):
    """A prediction to be logged: seconds since 1970, the request's id, its cells, outputs by name, bytes it takes."""

    time: float
    request_id: str
    cells: PackedColumns
    answers: dict[str, NDArray[Any]]
    n_bytes: int


def redacted_names(settings: Settings, contract: Contract) -> list[str]:
    """Return the sorted names of the features and outputs that are logged as null.

    Raises:
        SettingsError: If a name is neither a feature nor an output of the model.
    """
    given = next(csv.reader([settings.prediction_log_redact], skipinitialspace=True), [])
    outputs = {answer_member(output.name) for output in contract.outputs}
    known = {ALL_FEATURES, *contract.names, *outputs}
    wanted = {name if name in known else name.strip() for name in given} - {""}  # a quoted name may begin with a space
    unknown = sorted(wanted - known)
    if unknown:
        raise SettingsError(
            f"BAKEHOUSE_PREDICTION_LOG_REDACT names {', '.join(unknown)}: that is no feature or output of the model. "
            f"Its outputs are {', '.join(sorted(outputs))}, and * stands for all features. "
            "A name that holds a comma, or begins or ends with a space, stands in double quotes."
        )
    return sorted((wanted - {ALL_FEATURES}) | (set(contract.names) if ALL_FEATURES in wanted else set()))


def check_prediction_log(settings: Settings, contract: Contract) -> None:
    """Check the settings of the prediction log.

    Raises:
        SettingsError: If a redacted name is unknown, or the file is not writable.
    """
    if not settings.prediction_log:
        return
    redacted_names(settings, contract)
    if settings.prediction_log != TO_STANDARD_OUTPUT:
        try:
            os.close(_open(settings.prediction_log))
        except OSError as error:
            raise SettingsError(
                f"BAKEHOUSE_PREDICTION_LOG {settings.prediction_log} cannot be written ({error.strerror}): "
                "its folder must exist, and the server must be allowed to write there."
            ) from error


def _open(path: str) -> int:
    # Without waiting: a named pipe that nobody reads would hold the writer for ever.
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY, FILE_MODE)


class PredictionLog:
    """Writes predictions to a file or to standard output. It is a PredictionObserver that several threads call.

    Args:
        settings: Where to, how many of them, and what of them.
        artifact: What predicts.
        metrics: Where rows are counted.
    """

    def __init__(self, settings: Settings, artifact: Artifact, metrics: Metrics) -> None:
        self._ratio = settings.prediction_log_ratio
        self._names = artifact.contract.names
        self._redacted = redacted_names(settings, artifact.contract)
        self._model = {"model_name": artifact.name, "model_version": artifact.version}
        self._written, self._dropped = (
            metrics.metric(metric_definitions.PREDICTION_LOG_ROWS, result)
            for result in metric_definitions.PREDICTION_LOG_RESULTS
        )
        self._lock = threading.Lock()
        self._queue: deque[Prediction] = deque()
        self._queued_bytes = 0
        self._closing = threading.Event()
        self._end = 0.0
        self._target = Target(settings.prediction_log, self._wait)
        self._trouble = ""
        self._writer = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._writer.start()

    def __call__(self, request_id: str, columns: Columns, answers: dict[str, NDArray[Any]]) -> None:
        """Queue a prediction, or drop it."""
        if self._ratio < 1 and random.random() >= self._ratio:  # noqa: S311 - which requests are logged is no secret
            return
        cells, n_bytes = pack(columns)
        n_bytes += PREDICTION_BYTES + sum([values.nbytes for values in answers.values()])
        prediction = Prediction(time.time(), request_id, cells, answers, n_bytes)
        with self._lock:
            fits = not self._queue or self._queued_bytes + n_bytes <= QUEUE_BYTES  # one always does, however large
            if fits:
                self._queue.append(prediction)
                self._queued_bytes += n_bytes
        if not fits:
            self._dropped.inc(n_packed_rows(cells))

    def close(self) -> None:
        """Write what is queued, as far as that is done soon; the rest is dropped."""
        self._end = time.monotonic() + CLOSE_SECONDS
        self._closing.set()
        self._writer.join(CLOSE_SECONDS + 0.5)

    # In the writer --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        closing = False
        while not closing:
            closing = self._closing.wait(WAKE_SECONDS)
            while self._queue:
                prediction = self._queue[0]  # stays there, and in the account, until it is written
                if self._is_late():
                    self._dropped.inc(n_packed_rows(prediction.cells))
                else:
                    self._write(prediction)
                with self._lock:
                    self._queue.popleft()
                    self._queued_bytes -= prediction.n_bytes

    def _is_late(self) -> bool:
        return self._closing.is_set() and time.monotonic() > self._end

    def _wait(self) -> None:
        """Wait a little for the reader.

        Raises:
            TimeoutError: If the server ends.
        """
        time.sleep(ROOM_SECONDS)
        if self._is_late():
            raise TimeoutError(errno.ETIMEDOUT, "nobody reads it")

    def _write(self, prediction: Prediction) -> None:
        n_left, trouble = n_packed_rows(prediction.cells), ""
        try:
            self._target.follow()
            for line, n_samples in self._lines(prediction):
                self._target.write(line)
                self._written.inc(n_samples)
                n_left -= n_samples
        except Exception as error:  # noqa: BLE001 - whatever is wrong with this one, the next one is to be written
            self._target.close()
            self._dropped.inc(n_left)
            trouble = (error.strerror if isinstance(error, OSError) else "") or type(error).__name__
        if trouble != self._trouble:
            self._trouble = trouble
            what = f"cannot be written ({trouble}): rows are dropped until it can" if trouble else "is written again"
            log_message("error" if trouble else "info", f"The prediction log {what}.")

    def _lines(self, prediction: Prediction) -> Iterator[tuple[bytes, int]]:
        """Yield the lines of a prediction, each with its number of rows."""
        n_samples, columns = n_packed_rows(prediction.cells), unpack(prediction.cells)
        cells = [
            [None] * n_samples
            if name in self._redacted
            else column.tolist()
            if isinstance(column, np.ndarray)
            else column
            for name, column in zip(self._names, by_feature(columns), strict=True)
        ]
        rows = [dict(zip(self._names, row, strict=True)) for row in zip(*cells, strict=True)]
        outputs = {answer_member(name): values.tolist() for name, values in prediction.answers.items()}
        outputs |= dict.fromkeys(outputs.keys() & set(self._redacted))
        head = {
            "time": datetime.fromtimestamp(prediction.time, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
            "event": "prediction",
            "request_id": prediction.request_id,
            **self._model,
        }

        def lines(first: int, last: int) -> Iterator[tuple[bytes, int]]:
            part = {
                "first_row": first,
                "rows": rows[first:last],
                "outputs": {name: values and values[first:last] for name, values in outputs.items()},
                "redacted": self._redacted,
            }
            line = orjson.dumps({**head, **part}, option=orjson.OPT_APPEND_NEWLINE)
            n_samples = last - first
            if len(line) <= LINE_BYTES or n_samples == 1:
                yield line, n_samples
                return
            step = max(1, min(n_samples // 2, n_samples * LINE_BYTES * 3 // 4 // len(line)))
            for start in range(first, last, step):
                yield from lines(start, min(start + step, last))

        return lines(0, n_samples)


class Target:
    """Where lines go: standard output, or a file, which may be moved away at any time.

    Args:
        name: A path, or - for standard output.
        wait: Is called while a pipe is full; raises an OSError to give up.
    """

    def __init__(self, name: str, wait: Callable[[], None]) -> None:
        self._path = None if name == TO_STANDARD_OUTPUT else name
        self._fd = STANDARD_OUTPUT if self._path is None else None
        self._wait = wait
        self._is_cut = False  # whether the last line has no end

    def follow(self) -> None:
        """Open the file, unless it is open and still what its name leads to.

        Raises:
            OSError: If it cannot be opened.
        """
        if self._path is None:
            return
        if self._fd is not None and not self._is_in_place(self._path, self._fd):
            self.close()
        if self._fd is None:
            self._fd = _open(self._path)
            self._is_cut = _ends_within_a_line(self._path, self._fd)

    @staticmethod
    def _is_in_place(path: str, fd: int) -> bool:
        try:
            return os.path.samestat(Path(path).stat(), os.fstat(fd))
        except FileNotFoundError:
            return False

    def write(self, line: bytes) -> None:
        """Write a line, whole as far as that is possible: by one call, unless that is cut short.

        Raises:
            OSError: If the disk is full, the reader is gone, or waiting was given up; of a file's line nothing is left.
        """
        assert self._fd is not None  # noqa: S101 - follow comes before
        was_cut = self._is_cut
        left = memoryview(b"\n" + line if was_cut else line)
        n_bytes = len(left)
        try:
            while left:
                if _has_room(self._fd):
                    with suppress(BlockingIOError):
                        left = left[os.write(self._fd, left) :]
                        continue
                self._wait()
        finally:
            if len(left) < n_bytes:  # else nothing has changed
                self._is_cut = bool(left) and (was_cut or not self._take_back(self._fd, n_bytes - len(left)))

    def _take_back(self, fd: int, n_bytes: int) -> bool:
        """Remove what was written last from a file, and return whether that could be done."""
        if self._path is None:  # where others write at places of their own
            return False
        try:
            end = os.lseek(fd, 0, os.SEEK_CUR)
            if os.fstat(fd).st_size != end:  # another process has gone on
                return False
            os.ftruncate(fd, end - n_bytes)
        except OSError:  # a pipe takes nothing back
            return False
        return True

    def close(self) -> None:
        """Close the file; it is opened again by the next line."""
        if self._path is not None and self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _ends_within_a_line(path: str, fd: int) -> bool:
    """Return whether the last line of a file has no end, as after a crash; what cannot be read has one."""
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or found.st_size == 0:
        return False
    try:
        with Path(path).open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:
        return False


def _has_room(fd: int) -> bool:
    """Return whether a pipe has a reader and room; any other file always has room.

    So has one whose reader is gone: only writing tells.
    """
    poller = select.poll()
    poller.register(fd, 0)
    if poller.poll(0):
        return True
    try:
        n_bytes = fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)
    except OSError:
        return True
    (n_unread,) = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0" * 4))
    return bool(n_unread <= n_bytes * FULL_PIPE)
