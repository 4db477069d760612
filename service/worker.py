"""Gunicorn's threaded worker, answering broken HTTP as the API answers everything else, and repeating none of it."""

from http import HTTPStatus
from typing import Any

from gunicorn.http import errors
from gunicorn.workers.gthread import ThreadWorker

from service.errors import raw_problem
from service.logs import log_request, new_request_id
from service.observe import UNMATCHED

STATUS_OF_ERROR = {
    errors.LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    errors.LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    errors.ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
    errors.UnsupportedTransferCoding: HTTPStatus.NOT_IMPLEMENTED,
}


class Worker(ThreadWorker):
    """One serving process; its slot is its place among them, taken over by whoever replaces it."""

    slot = 1
    _quitting = False

    def handle_quit(self, sig: int, frame: Any) -> None:
        """Quit at once, and once.

        Not by way of the thread pool's shutdown, as ThreadWorker does: it waits for a lock that is held by the code
        which the signal interrupted, or by the first of the two signals that Ctrl-C in a terminal makes.
        """
        if not self._quitting:
            self._quitting = True
            super(ThreadWorker, self).handle_quit(sig, frame)

    def handle_error(self, _req: Any, client: Any, _addr: Any, exc: Exception) -> None:
        """Answer a request that could not be parsed; Gunicorn's own answer repeats what the client sent."""
        if isinstance(exc, (errors.ParseException, OSError)):
            status = STATUS_OF_ERROR.get(type(exc), HTTPStatus.BAD_REQUEST)
            detail = f"{status.phrase}: this is no HTTP request that can be served ({type(exc).__name__})."
        else:
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            detail = "The service failed on this request; its log says where."
            self.log.error("The worker failed on a request with %s", type(exc).__name__)
        identifier = new_request_id()
        self.app.metrics.count_request(UNMATCHED, "other", status, 0.0)
        log_request(
            request_id=identifier, route=UNMATCHED, method="", status=int(status), duration_seconds=0.0, rows=0,
            error=type(exc).__name__,
        )  # fmt: skip
        try:
            client.sendall(raw_problem(status, detail, identifier))
        except OSError:
            self.log.debug("The client of a broken request is gone.")
