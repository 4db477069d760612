"""Gunicorn's threaded worker, changed: clients cannot occupy threads, and connections and memory are bounded.

One thread is the event loop. It polls all connections, and reads and writes without waiting for a client. It works only
on whole requests. It answers a request itself if that is quicker than a hand-over to another thread. Otherwise it puts
the request into a bounded queue for the thread pool. If the queue is full, the response is 503.
See docs/decisions/0009-whole-requests-from-an-event-loop.md.
"""

import os
import resource
import select
import ssl
import threading
import time
from collections import OrderedDict, deque
from http import HTTPStatus
from itertools import takewhile
from operator import itemgetter
from queue import SimpleQueue
from typing import Any, Protocol

from gunicorn.http import errors, wsgi
from gunicorn.http.body import Body
from gunicorn.workers.base import Worker as BaseWorker
from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER, ThreadWorker

from service.observability import metric_definitions
from service.observability.logging import dropped_lines, log_bug, log_request, new_request_id
from service.observability.metrics import Metrics
from service.observability.request_context import CONTEXT, OTHER_METHOD, UNMATCHED, RequestContext
from service.problems import raw_problem
from service.server.connection import READ_BYTES, Connection
from service.server.request_heads import RequestHeadCache
from service.settings import Settings

# An unknown transfer coding gets 400, not 501. Proxies and error budgets count each 5xx as a failure of the server, and
# any client could cause them.
STATUS_OF_ERROR = {
    errors.LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    errors.LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    errors.ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
}
TICK_SECONDS = 0.5  # how often the worker sends its heartbeat and checks deadlines
EVENTS = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
NO_MORE_INPUT = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
INPUT = select.EPOLLIN | NO_MORE_INPUT
ACCEPTED_AT_ONCE = 16
READS_AT_ONCE = 4  # reads from one connection before others get their turn
LINGER_SECONDS = 2.0  # the value of Gunicorn
SCRATCH = bytearray(64 * 1024)  # a buffer for discarded bytes after the last response
HELD_BODIES = 8  # incomplete requests and unread responses of one process may use the memory of 8 longest bodies
MAX_LINGERING = 128  # connections that wait for their clients to close
EXTRA_FILES = 256  # descriptors for everything except connections
RETRY_AFTER_SECONDS = 1


class ServedApplication(Protocol):
    """What the worker needs from the Gunicorn application."""

    settings: Settings
    metrics: Metrics
    model_version: str

    def answers_at_once(self, method: str, path: str, n_body_bytes: int) -> bool:
        """Return whether the event loop answers the request itself, because a hand-over would take longer."""


class DeadlineQueue(OrderedDict[Connection, float]):
    """Connections that wait for one kind of event, with their deadlines. The connection that waits longest is first.

    Args:
        seconds: The time limit of each connection.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def expired(self, now: float) -> list[Connection]:
        """Return the connections whose deadline has passed."""
        return [connection for connection, _ in takewhile(lambda item: item[1] <= now, self.items())]


class CachedConfig:
    """Gunicorn's configuration with cached options. The parser reads about 24 options for each request.

    Args:
        cfg: The configuration. It must not change any more.
    """

    def __init__(self, cfg: Any) -> None:
        self._cfg = cfg

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._cfg, name)
        setattr(self, name, value)
        return value


class Worker(ThreadWorker):
    """One serving process. Its slot is its number among the processes. A process that replaces it takes the slot."""

    slot = 1
    alive: bool
    _accepting: bool
    _quitting = False

    def handle_quit(self, sig: int, frame: Any) -> None:
        """Quit at once. Ignore a second signal, because Ctrl-C in a terminal sends two."""
        if not self._quitting:
            self._quitting = True
            BaseWorker.handle_quit(self, sig, frame)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Begin to stop. The signal wakes the event loop through Gunicorn's pipe."""
        BaseWorker.handle_exit(self, sig, frame)

    def init_process(self) -> None:
        """Prepare the process and run it."""
        self.application: ServedApplication = self.app
        settings = self.application.settings
        self.options = CachedConfig(self.cfg)
        self.connections: dict[int, Connection] = {}
        self._known_heads = RequestHeadCache(self.options)
        # Requests for the pool, each with its connection and the time when its wait began.
        self.queue: SimpleQueue[tuple[Connection, Any, float] | None] = SimpleQueue()
        self._working = [False] * self.cfg.threads
        self._answers_at_once = False
        self.awaiting_head = DeadlineQueue(settings.header_timeout_seconds)
        self.awaiting_body = DeadlineQueue(settings.body_timeout_seconds)
        self.sending = DeadlineQueue(settings.answer_timeout_seconds)
        self.idle = DeadlineQueue(self.cfg.keepalive)
        self.lingering = DeadlineQueue(LINGER_SECONDS)
        self._max_queued = settings.max_queued
        self._max_body_bytes = settings.max_body_bytes
        self._max_held_bytes = HELD_BODIES * settings.max_body_bytes
        self._held_bytes = 0
        self._ready: dict[Connection, None] = {}  # an ordered set of connections with more work for the next turn
        self._done: deque[Connection] = deque()  # connections that the pool has finished with
        self._woken = False
        self._next_tick = 0.0
        self._now = time.monotonic()
        self._epoll = select.epoll()
        _raise_file_limit(self.worker_connections + EXTRA_FILES)
        self._metrics = self.application.metrics
        BaseWorker.init_process(self)

    # The event loop ------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until the process must stop. Then finish the requests in flight."""
        self._metrics.add_source(self._update_gauges)
        self._listeners = {listener.fileno(): (listener, listener.getsockname()) for listener in self.sockets}
        self._epoll.register(self.PIPE[0], select.EPOLLIN)
        self._set_accepting(True)
        for number in range(self.cfg.threads):
            threading.Thread(target=self._work, args=(number,), name=f"request-{number}", daemon=True).start()
        while self.alive and self._turn():
            pass
        self.alive = False
        self._stop_accepting()
        deadline = self._now + self.cfg.graceful_timeout
        while self.connections and self._now < deadline and self._turn():
            pass
        for _ in range(self.cfg.threads):
            self.queue.put(None)

    def _stop_accepting(self) -> None:
        """Accept the last connections from the kernel, and shorten the deadlines of connections without a request."""
        for fd in self._listeners:
            self._accept(fd, self.worker_connections)
        self._set_accepting(False)
        self.idle.seconds = min(self.idle.seconds, STOP_KEEPALIVE_LINGER)
        for connection in [*self.idle, *(other for other in self.awaiting_head if not other.n_received)]:
            self._move(connection, None)
            self._move(connection, self.idle)

    def _turn(self) -> bool:
        """Handle the current events, and return whether the server still runs."""
        events = self._epoll.poll(0 if self._ready or self._done else TICK_SECONDS)
        self._now = time.monotonic()
        while self._done:
            self._finish(self._done.popleft())
        ready, self._ready = self._ready, {}
        for fd, mask in events:
            if connection := self.connections.get(fd):
                connection.readable |= connection.tls or mask & INPUT > 0  # TLS may need to read before it writes
                connection.hung_up |= mask & NO_MORE_INPUT > 0
                ready.pop(connection, None)  # one request a turn
                self._advance(connection)
            elif fd in self._listeners:
                self._accept(fd, ACCEPTED_AT_ONCE if self.options.workers == 1 else 1)
            elif fd == self.PIPE[0]:
                os.read(fd, 4096)
                self._woken = False
        for connection in ready:
            self._advance(connection)
        return self._now < self._next_tick or self._tick()

    def _tick(self) -> bool:
        """Send the heartbeat, check deadlines, and return whether the server still runs."""
        self._next_tick = self._now + TICK_SECONDS
        self.notify()
        if self._metrics.shared:
            self._update_gauges()  # because another process may answer the scrape
        self._set_accepting(self.alive)
        for connection in self.awaiting_head.expired(self._now):
            if connection.n_received:
                self._refuse(
                    connection, HTTPStatus.REQUEST_TIMEOUT, "Send the head of the request faster.", "slow_head"
                )
            else:
                self._drop(connection)
        for connection in self.awaiting_body.expired(self._now):
            self._refuse(connection, HTTPStatus.REQUEST_TIMEOUT, "Send the body of the request faster.", "slow_body")
        for queue in (self.sending, self.idle, self.lingering):
            for connection in queue.expired(self._now):
                self._drop(connection)
        return not self.alive or bool(self.is_parent_alive())

    def _set_accepting(self, accepting: bool) -> None:
        if accepting != self._accepting:
            self._accepting = accepting
            for fd, (listener, _) in self._listeners.items():
                listener.setblocking(False)
                if accepting:
                    self._epoll.register(fd, select.EPOLLIN)
                else:
                    self._epoll.unregister(fd)

    def _accept(self, fd: int, at_most: int) -> None:
        listener, address = self._listeners[fd]
        for _ in range(at_most):
            try:
                sock, client = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                self.log.error("The worker cannot accept connections: %s", error.strerror)
                if not self._close_oldest(self.lingering, self.idle):
                    self._set_accepting(False)  # until the next tick
                return
            in_use = len(self.connections) - len(self.lingering)  # lingering connections are already finished
            room = in_use < self.worker_connections or self._close_oldest(self.idle)
            if len(self.lingering) > MAX_LINGERING:
                self._close_oldest(self.lingering)
            try:
                connection = Connection(
                    sock, client, address, self.options, self._known_heads, self._max_body_bytes, self.sending.seconds
                )
            except OSError:  # TLS cannot begin on a lost connection
                sock.close()
                continue
            self.connections[connection.fd] = connection
            self._move(connection, self.awaiting_head)
            if room:
                self._epoll.register(connection.fd, EVENTS)
                self._advance(connection)
            elif connection.handshaking:
                self._metrics.count_refused("too_many_connections")
                self._drop(connection)
            else:
                self._epoll.register(connection.fd, EVENTS)
                self._shed(connection, "too_many_connections", close=True)

    def _close_oldest(self, *queues: DeadlineQueue) -> bool:
        """Close the oldest connection of the first queue that has one, and return whether there was one."""
        for queue in queues:
            if queue:
                self._drop(next(iter(queue)))
                return True
        return False

    # One connection -------------------------------------------------------------------------------------------

    def _advance(self, connection: Connection) -> None:
        """Advance a connection without waiting for its client. For fairness, stop after one request."""
        if connection.busy or self.connections.get(connection.fd) is not connection:  # closed, and its fd is reused
            return
        try:
            if connection.deadline_queue is self.lingering:
                self._linger(connection)
            elif connection.unsent:
                self._flush_or_close(connection)
            elif not connection.handshaking or connection.shake_hands():
                self._read(connection)
        except ssl.SSLError:
            connection.unsent, connection.closing = b"", True  # OpenSSL has sent an alert, if there is one
            self._flush_or_close(connection)
        except OSError:
            self._drop(connection)
        except errors.ParseException as error:
            self.handle_error(None, connection, connection.client, error)
            connection.closing = True
            self._flush_or_close(connection)
        except Exception as error:  # noqa: BLE001 - no client may end the process
            log_bug(error, "The service failed on a connection.")
            self._drop(connection)

    def _read(self, connection: Connection) -> None:
        request = connection.next_request()
        n_reads = 0
        while request is None and connection.readable and n_reads < READS_AT_ONCE:
            connection.receive()
            n_reads += 1
            request = connection.next_request()
        if request is None and connection.ended:
            request = connection.truncated_request()
            if request is None:
                self._drop(connection)
                return
        if request is None:
            self._wait_for_more(connection)
        else:
            self._dispatch(connection, request)

    def _wait_for_more(self, connection: Connection) -> None:
        if connection.readable:
            self._ready[connection] = None
        if connection.head_is_here:
            self._move(connection, self.awaiting_body)
        elif connection.n_received or connection.deadline_queue is not self.idle:
            self._move(connection, self.awaiting_head)
        self._account_memory(connection, connection.n_received)

    def _dispatch(self, connection: Connection, request: Any) -> None:
        """Answer a request at once, queue it for the pool, or refuse it."""
        n_bytes = connection.n_body_bytes
        if self.application.answers_at_once(request.method, request.path, n_bytes) and not _is_compressed(request):
            self._answers_at_once = True
            self._answer(connection, request)
            self._answers_at_once = False
            self._flush_or_close(connection)
            return
        self._move(connection, None)
        self._account_memory(connection, n_bytes)
        n_idle_threads = self.cfg.threads - self.n_busy_threads  # some are about to take requests from the queue
        if self.queue.qsize() < self._max_queued + n_idle_threads and self._held_bytes <= self._max_held_bytes:
            connection.busy = True
            self.queue.put((connection, request, time.perf_counter()))
            return
        self.options.pre_request(self, request)  # closes the connection while draining
        close = request.should_close() or not self.alive or not self.options.keepalive or request.method == "HEAD"
        self._shed(connection, "queue_full", close)

    def _flush_or_close(self, connection: Connection) -> None:
        """Send unsent bytes. Then close the connection, or wait for the next request."""
        try:
            all_sent = connection.broken or connection.flush()
        except OSError:
            connection.broken = True
        if connection.broken or (all_sent and connection.closing and connection.ended):
            self._drop(connection)
        elif not all_sent:
            self._move(connection, self.sending)
            self._account_memory(connection, len(connection.unsent))
        elif connection.closing:
            self._move(connection, self.lingering)
            self._account_memory(connection, 0)
            connection.begin_close()
            self._linger(connection)
        else:
            self._account_memory(connection, 0)
            self._move(connection, self.idle)
            self.idle[connection] = self._now + self.idle.seconds
            self.idle.move_to_end(connection)
            if connection.has_more:
                self._ready[connection] = None

    def _linger(self, connection: Connection) -> None:
        for _ in range(READS_AT_ONCE):
            if not connection.readable:
                return
            if connection.discard(SCRATCH):
                self._drop(connection)
                return
        self._ready[connection] = None

    def _finish(self, connection: Connection) -> None:
        """Take a connection back from the pool."""
        connection.busy = False
        self._account_memory(connection, 0)
        self._flush_or_close(connection)

    def _drop(self, connection: Connection) -> None:
        """Close a connection without a response."""
        self._move(connection, None)
        self._account_memory(connection, 0)
        del self.connections[connection.fd]
        connection.sock.close()

    def _move(self, connection: Connection, queue: DeadlineQueue | None) -> None:
        """Move a connection to a queue, or out of all queues. In the same queue, it keeps its deadline."""
        if connection.deadline_queue is not queue:
            if connection.deadline_queue is not None:
                del connection.deadline_queue[connection]
            connection.deadline_queue = queue
            if queue is not None:
                queue[connection] = self._now + queue.seconds

    def _account_memory(self, connection: Connection, n_bytes: int) -> None:
        """Record the memory that a connection uses. Above the limit, close the connections that have waited longest."""
        self._held_bytes += n_bytes - connection.n_held_bytes
        connection.n_held_bytes = n_bytes
        while n_bytes and self._held_bytes > self._max_held_bytes and (slow := self._slowest()):
            if slow.deadline_queue is self.sending:
                self._drop(slow)
            else:
                self._shed(slow, "too_many_bytes", close=True)

    def _slowest(self) -> Connection | None:
        """Return the connection that has waited longest for its client, of those that use memory."""
        oldest = (
            next(((until - queue.seconds, other) for other, until in queue.items() if other.n_held_bytes), None)
            for queue in (self.awaiting_body, self.awaiting_head, self.sending)
        )
        return min(filter(None, oldest), key=itemgetter(0), default=(0, None))[1]

    # Metrics ----------------------------------------------------------------------------------------------------

    def _update_gauges(self, _openmetrics: bool = False) -> bytes:
        """Set the gauges. It is a source of metrics without text.

        The thread of a scrape also calls it, so the numbers can differ by a request.
        """
        metric = self._metrics.metric
        n_queued, n_busy = self.queue.qsize(), self.n_busy_threads
        metric(metric_definitions.THREADS).set(self.cfg.threads)
        metric(metric_definitions.THREADS_BUSY).set(n_busy)
        metric(metric_definitions.QUEUE_REQUESTS).set(n_queued)
        metric(metric_definitions.QUEUE_LIMIT).set(self._max_queued)
        metric(metric_definitions.IN_FLIGHT).set(n_queued + n_busy + self._answers_at_once)
        metric(metric_definitions.CONNECTIONS_LIMIT).set(self.worker_connections)
        n_by_state = {
            "idle": len(self.idle),
            "head": len(self.awaiting_head),
            "body": len(self.awaiting_body),
            "answer": len(self.sending),
            "lingering": len(self.lingering),
        }
        n_working = max(0, len(self.connections) - sum(n_by_state.values()))
        for state, number in {**n_by_state, "working": n_working}.items():
            metric(metric_definitions.CONNECTIONS, state).set(number)
        for stream, n_lines in dropped_lines().items():
            metric(metric_definitions.LOG_LINES_DROPPED, stream).inc(n_lines)
        return b""

    # Answers --------------------------------------------------------------------------------------------------

    @property
    def n_busy_threads(self) -> int:
        """How many pool threads work on a request."""
        return self._working.count(True)

    def _work(self, number: int) -> None:
        """Answer requests from the queue, in a pool thread."""
        while (job := self.queue.get()) is not None:
            connection, request, since = job
            self._working[number] = True
            queue_seconds = time.perf_counter() - since
            self._metrics.queue_wait.observe(queue_seconds)
            try:
                self._answer(connection, request, queue_seconds)
            except SystemExit:  # raised by the application
                connection.broken = connection.closing = True
            finally:
                self._working[number] = False
                self._done.append(connection)
                if connection.unsent or connection.closing or connection.has_more:
                    self._wake()  # otherwise the next event or tick of the event loop is early enough
            del job, connection, request

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            os.write(self.PIPE[1], b".")

    def _answer(self, connection: Connection, request: Any, queue_seconds: float = 0.0) -> None:
        """Call the application, and send the response as far as the client reads it."""
        connection.begin_answer()
        try:
            connection.closing = self._respond(connection, request, queue_seconds)
            connection.flush()
        except Exception as error:  # noqa: BLE001 - a failed request must not end the others
            connection.closing = True
            if not connection.broken and not connection.answer_begun:
                self.handle_error(request, connection, connection.client, error)
            elif not connection.broken:
                log_bug(error, "The service failed in the middle of a response.")

    def _respond(self, connection: Connection, request: Any, queue_seconds: float) -> bool:
        """Run the application as ThreadWorker.handle_request does, and return whether to close the connection."""
        response, environ = None, {}
        self.options.pre_request(self, request)
        try:
            response, environ = wsgi.create(request, connection, connection.client, connection.server, self.options)
            environ["wsgi.multithread"] = True
            environ["gunicorn.socket"] = connection.sock
            environ[CONTEXT] = RequestContext(queue_seconds=queue_seconds)
            self.nr += 1
            if self.nr >= self.max_requests:
                if self.alive:
                    self.log.info("Autorestarting worker after current request.")
                self.alive = False
            if not self.alive or not self.options.keepalive:
                response.force_close()
            answer = self.wsgi(environ, response.start_response)
            try:
                for item in answer:
                    response.write(item)
                response.close()
            finally:
                if hasattr(answer, "close"):
                    answer.close()
                self._metrics.request_bytes.inc(connection.n_body_bytes)
                self._metrics.response_bytes.inc(response.sent)
        finally:
            self.options.post_request(self, request, environ, response)
        return bool(response.should_close()) or not _body_is_sound(request)

    def handle_error(self, _req: Any, client: Any, _addr: Any, exc: Exception) -> None:
        """Answer a request that Gunicorn could not parse. Gunicorn's own response would repeat parts of the request."""
        if isinstance(exc, (errors.ParseException, errors.NoMoreData)):
            self._metrics.count_refused("malformed")
            status = STATUS_OF_ERROR.get(type(exc), HTTPStatus.BAD_REQUEST)
            detail = f"{status.phrase}: the server cannot process this HTTP request ({type(exc).__name__})."
            client.unsent = self._problem(status, detail, "malformed", error=type(exc).__name__)
        else:
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            identifier = new_request_id()
            log_bug(exc, "The service failed on a request outside of the application.", identifier)
            detail = "The service failed on this request. Its log says where."
            client.unsent = self._problem(status, detail, status.name.lower(), identifier=identifier)

    def _refuse(self, connection: Connection, status: HTTPStatus, detail: str, code: str) -> None:
        self._metrics.count_refused(code)
        connection.unsent = self._problem(status, f"{status.phrase}: {detail}", code)
        connection.closing = True
        self._flush_or_close(connection)

    def _shed(self, connection: Connection, code: str, close: bool) -> None:
        """Answer 503, because the server is busy."""
        self._metrics.count_refused(code)
        detail = "Service Unavailable: the server is busy. Send the request again later."
        retry = {"Retry-After": str(RETRY_AFTER_SECONDS)}
        connection.unsent = self._problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, code, close, retry)
        connection.closing = close
        self._flush_or_close(connection)

    def _problem(
        self,
        status: HTTPStatus,
        detail: str,
        code: str,
        close: bool = True,
        headers: dict[str, str] | None = None,
        error: str = "",
        identifier: str = "",
    ) -> bytes:
        """Return the response to a request that never reached the application. Count and log the request.

        Args:
            status: The status.
            detail: What to do about it.
            code: Why the worker refused the request, as a code for the log.
            close: Whether the response closes its connection.
            headers: More headers.
            error: The class of the parser's exception, if there was one.
            identifier: The id of the request, if it has one.
        """
        context = RequestContext(
            request_id=identifier or new_request_id(),
            route=UNMATCHED,
            model_version=self.application.model_version,
            problem_code=code,
        )
        self._metrics.count_request(UNMATCHED, OTHER_METHOD, status, 0.0)
        log_request(context, OTHER_METHOD, status, 0.0, error)
        return raw_problem(status, detail, context.request_id, close, headers)


def _body_is_sound(request: Any) -> bool:
    """Return whether Gunicorn finds the end of the body. Otherwise the start of the next request is unknown."""
    try:
        while isinstance(request.body, Body) and request.body.read(READ_BYTES):
            pass  # the application has not read this part
    except Exception:  # noqa: BLE001 - any error means that the body is not sound
        return False
    return not getattr(request.body, "failed", False)


def _is_compressed(request: Any) -> bool:
    """Return whether decompression may make the body longer."""
    return "CONTENT-ENCODING" in dict(request.headers)


def _raise_file_limit(n_files: int) -> None:
    """Raise the soft limit of open files to n_files, as far as the hard limit allows. It is often only 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < n_files:
        allowed = n_files if hard == resource.RLIM_INFINITY else min(n_files, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
