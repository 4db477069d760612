"""Gunicorn's threaded worker, in which no client can hold a thread, and no number of them more than its share.

One thread polls all connections and reads and writes without ever waiting for a client. A request that is whole is
answered by that thread itself, if it is so quick that handing it over would cost more, or put in a queue for the pool,
which has a bound: beyond it the answer is 503. See docs/decisions/0009-whole-requests-from-an-event-loop.md.
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

# A transfer coding that nobody knows is 400 and not 501: proxies and budgets of errors take any 5xx for a failure of
# the server, and anybody could make some.
STATUS_OF_ERROR = {
    errors.LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    errors.LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    errors.ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
}
TICK_SECONDS = 0.5  # how often the heartbeat is sent and deadlines are looked at
EVENTS = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
NO_MORE_INPUT = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
INPUT = select.EPOLLIN | NO_MORE_INPUT
ACCEPTED_AT_ONCE = 16
READS_AT_ONCE = 4  # of one connection, before others have their turn
LINGER_SECONDS = 2.0  # as Gunicorn
SCRATCH = bytearray(64 * 1024)  # what comes after the last answer is read into it, and never looked at
HELD_BODIES = 8  # of the longest length: what one process holds of incomplete requests and unread answers
MAX_LINGERING = 128  # connections that wait for their clients to have seen that it is over
OWN_FILES = 256  # descriptors that are no connections in use
RETRY_AFTER_SECONDS = 1


class ServedApplication(Protocol):
    """What the worker needs of the Gunicorn application."""

    settings: Settings
    metrics: Metrics
    model_version: str

    def answers_at_once(self, method: str, path: str, n_body_bytes: int) -> bool:
        """Return whether a request is so quick that handing it to another thread would take longer."""


class DeadlineQueue(OrderedDict[Connection, float]):
    """Connections that wait for one kind of event until their deadlines, the longest waiting first.

    Args:
        seconds: How long each may wait.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def expired(self, now: float) -> list[Connection]:
        """Return those whose deadline is over."""
        return [connection for connection, _ in takewhile(lambda item: item[1] <= now, self.items())]


class CachedConfig:
    """Gunicorn's configuration, each option looked up once: the parser asks for two dozen of them for each request.

    Args:
        cfg: The configuration, which changes no more.
    """

    def __init__(self, cfg: Any) -> None:
        self._cfg = cfg

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._cfg, name)
        setattr(self, name, value)
        return value


class Worker(ThreadWorker):
    """One serving process; its slot is its place among them, taken over by whoever replaces it."""

    slot = 1
    alive: bool
    _accepting: bool
    _quitting = False

    def handle_quit(self, sig: int, frame: Any) -> None:
        """Quit at once, and once, although Ctrl-C in a terminal makes two signals."""
        if not self._quitting:
            self._quitting = True
            BaseWorker.handle_quit(self, sig, frame)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Begin to stop; the signal itself wakes the poller up, by Gunicorn's pipe."""
        BaseWorker.handle_exit(self, sig, frame)

    def init_process(self) -> None:
        """Make what the process works with, and run."""
        self.application: ServedApplication = self.app
        settings = self.application.settings
        self.options = CachedConfig(self.cfg)
        self.connections: dict[int, Connection] = {}
        self._known_heads = RequestHeadCache(self.options)
        self.queue: SimpleQueue[tuple[Connection, Any, float] | None] = SimpleQueue()  # and since when it waits
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
        self._ready: dict[Connection, None] = {}  # have more to do at once, each once, in this order
        self._done: deque[Connection] = deque()  # come back from the pool
        self._woken = False
        self._next_tick = 0.0
        self._now = time.monotonic()
        self._epoll = select.epoll()
        _allow_files(self.worker_connections + OWN_FILES)
        self._metrics = self.application.metrics
        BaseWorker.init_process(self)

    # The poller ----------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until the process is told to stop; then let requests under way end."""
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
        """Take the last connections that the kernel accepted; those that are silent get little time."""
        for fd in self._listeners:
            self._accept(fd, self.worker_connections)
        self._set_accepting(False)
        self.idle.seconds = min(self.idle.seconds, STOP_KEEPALIVE_LINGER)
        for connection in [*self.idle, *(other for other in self.awaiting_head if not other.n_received)]:
            self._wait(connection, None)
            self._wait(connection, self.idle)

    def _turn(self) -> bool:
        """Do what there is to do, and return whether the server still runs."""
        events = self._epoll.poll(0 if self._ready or self._done else TICK_SECONDS)
        self._now = time.monotonic()
        while self._done:
            self._finish(self._done.popleft())
        ready, self._ready = self._ready, {}
        for fd, mask in events:
            if connection := self.connections.get(fd):
                connection.readable |= connection.tls or mask & INPUT > 0  # TLS may have to read before it writes
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
        self._next_tick = self._now + TICK_SECONDS
        self.notify()
        if self._metrics.shared:
            self._update_gauges()  # because another process may be the one that is scraped
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
        for waiting in (self.sending, self.idle, self.lingering):
            for connection in waiting.expired(self._now):
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
                self.log.error("No connection can be accepted: %s", error.strerror)
                if not self._close_oldest(self.lingering, self.idle):
                    self._set_accepting(False)  # until the next tick
                return
            in_use = len(self.connections) - len(self.lingering)  # those were told that it is over
            room = in_use < self.worker_connections or self._close_oldest(self.idle)
            if len(self.lingering) > MAX_LINGERING:
                self._close_oldest(self.lingering)
            try:
                connection = Connection(
                    sock, client, address, self.options, self._known_heads, self._max_body_bytes, self.sending.seconds
                )
            except OSError:  # TLS does not begin on a connection that is gone
                sock.close()
                continue
            self.connections[connection.fd] = connection
            self._wait(connection, self.awaiting_head)
            if room:
                self._epoll.register(connection.fd, EVENTS)
                self._advance(connection)
            elif connection.handshaking:
                self._metrics.count_refused("too_many_connections")
                self._drop(connection)
            else:
                self._epoll.register(connection.fd, EVENTS)
                self._shed(connection, "too_many_connections", close=True)

    def _close_oldest(self, *kinds: DeadlineQueue) -> bool:
        """Close the connection that has waited for the longest time, and return whether there was one."""
        for waiting in kinds:
            if waiting:
                self._drop(next(iter(waiting)))
                return True
        return False

    # One connection -------------------------------------------------------------------------------------------

    def _advance(self, connection: Connection) -> None:
        """Take a connection as far as it gets without waiting for its client; one request at most, to be fair."""
        if connection.busy or self.connections.get(connection.fd) is not connection:  # the number is used again
            return
        try:
            if connection.waiting is self.lingering:
                self._linger(connection)
            elif connection.unsent:
                self._flush_or_close(connection)
            elif not connection.handshaking or connection.shake_hands():
                self._read(connection)
        except ssl.SSLError:
            connection.unsent, connection.closing = b"", True  # the alert is sent, if there is one
            self._flush_or_close(connection)
        except OSError:
            self._drop(connection)
        except errors.ParseException as error:
            self.handle_error(None, connection, connection.client, error)
            connection.closing = True
            self._flush_or_close(connection)
        except Exception as error:  # noqa: BLE001 - nothing that one client sends must end the process
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
            self._wait(connection, self.awaiting_body)
        elif connection.n_received or connection.waiting is not self.idle:
            self._wait(connection, self.awaiting_head)
        self._account_memory(connection, connection.n_received)

    def _dispatch(self, connection: Connection, request: Any) -> None:
        """Answer a request at once, or have the pool answer it, or refuse it."""
        n_bytes = connection.n_body_bytes
        if self.application.answers_at_once(request.method, request.path, n_bytes) and not _is_compressed(request):
            self._answers_at_once = True
            self._answer(connection, request)
            self._answers_at_once = False
            self._flush_or_close(connection)
            return
        self._wait(connection, None)
        self._account_memory(connection, n_bytes)
        n_idle_threads = self.cfg.threads - self.n_busy_threads  # some of them are about to take what is in the queue
        if self.queue.qsize() < self._max_queued + n_idle_threads and self._held_bytes <= self._max_held_bytes:
            connection.busy = True
            self.queue.put((connection, request, time.perf_counter()))
            return
        self.options.pre_request(self, request)  # closes while draining
        close = request.should_close() or not self.alive or not self.options.keepalive or request.method == "HEAD"
        self._shed(connection, "queue_full", close)

    def _flush_or_close(self, connection: Connection) -> None:
        """Send what is unsent; then close the connection, or wait for the next request."""
        try:
            all_sent = connection.broken or connection.flush()
        except OSError:
            connection.broken = True
        if connection.broken or (all_sent and connection.closing and connection.ended):
            self._drop(connection)
        elif not all_sent:
            self._wait(connection, self.sending)
            self._account_memory(connection, len(connection.unsent))
        elif connection.closing:
            self._wait(connection, self.lingering)
            self._account_memory(connection, 0)
            connection.begin_close()
            self._linger(connection)
        else:
            self._account_memory(connection, 0)
            self._wait(connection, self.idle)
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
        self._wait(connection, None)
        self._account_memory(connection, 0)
        del self.connections[connection.fd]
        connection.sock.close()

    def _wait(self, connection: Connection, waiting: DeadlineQueue | None) -> None:
        """Set for what the client is awaited; its deadline is not moved if that is nothing new."""
        if connection.waiting is not waiting:
            if connection.waiting is not None:
                del connection.waiting[connection]
            connection.waiting = waiting
            if waiting is not None:
                waiting[connection] = self._now + waiting.seconds

    def _account_memory(self, connection: Connection, n_bytes: int) -> None:
        """Account for what is kept in memory for a client; if it is too much, those that wait longest give way."""
        self._held_bytes += n_bytes - connection.held
        connection.held = n_bytes
        while n_bytes and self._held_bytes > self._max_held_bytes and (slow := self._slowest()):
            if slow.waiting is self.sending:
                self._drop(slow)
            else:
                self._shed(slow, "too_many_bytes", close=True)

    def _slowest(self) -> Connection | None:
        """Return the one that has waited longest for its client, of those for which something is kept in memory."""
        firsts = (
            next(((until - waiting.seconds, other) for other, until in waiting.items() if other.held), None)
            for waiting in (self.awaiting_body, self.awaiting_head, self.sending)
        )
        return min(filter(None, firsts), key=itemgetter(0), default=(0, None))[1]

    # What is told -----------------------------------------------------------------------------------------------

    def _update_gauges(self, _openmetrics: bool = False) -> bytes:
        """Set the gauges of the moment, a source of metrics without text of its own.

        The thread of a scrape calls it as well, so numbers may be a request apart.
        """
        metric = self._metrics.metric
        n_queued, n_busy = self.queue.qsize(), self.n_busy_threads
        metric(metric_definitions.THREADS).set(self.cfg.threads)
        metric(metric_definitions.THREADS_BUSY).set(n_busy)
        metric(metric_definitions.QUEUE_REQUESTS).set(n_queued)
        metric(metric_definitions.QUEUE_LIMIT).set(self._max_queued)
        metric(metric_definitions.IN_FLIGHT).set(n_queued + n_busy + self._answers_at_once)
        metric(metric_definitions.CONNECTIONS_LIMIT).set(self.worker_connections)
        n_waiting = {
            "idle": len(self.idle),
            "head": len(self.awaiting_head),
            "body": len(self.awaiting_body),
            "answer": len(self.sending),
            "lingering": len(self.lingering),
        }
        n_working = max(0, len(self.connections) - sum(n_waiting.values()))
        for state, number in {**n_waiting, "working": n_working}.items():
            metric(metric_definitions.CONNECTIONS, state).set(number)
        for stream, n_lines in dropped_lines().items():
            metric(metric_definitions.LOG_LINES_DROPPED, stream).inc(n_lines)
        return b""

    # Answers --------------------------------------------------------------------------------------------------

    @property
    def n_busy_threads(self) -> int:
        """How many threads of the pool work on a request; queue.qsize() more requests wait."""
        return self._working.count(True)

    def _work(self, number: int) -> None:
        """Answer requests from the queue, in a thread of the pool."""
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
                    self._wake()  # else whatever wakes the poller up is early enough
            del job, connection, request

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            os.write(self.PIPE[1], b".")

    def _answer(self, connection: Connection, request: Any, queue_seconds: float = 0.0) -> None:
        """Have the application answer, and send as much of it as the client takes."""
        connection.begin_answer()
        try:
            connection.closing = self._respond(connection, request, queue_seconds)
            connection.flush()
        except Exception as error:  # noqa: BLE001 - one request that fails must not end the others
            connection.closing = True
            if not connection.broken and not connection.answer_begun:
                self.handle_error(request, connection, connection.client, error)
            elif not connection.broken:
                log_bug(error, "The service failed in the middle of an answer.")

    def _respond(self, connection: Connection, request: Any, queue_seconds: float) -> bool:
        """Run the application as ThreadWorker.handle_request does, and return whether the connection ends."""
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
        """Answer a request that could not be parsed; Gunicorn's own answer repeats what the client sent."""
        if isinstance(exc, (errors.ParseException, errors.NoMoreData)):
            self._metrics.count_refused("malformed")
            status = STATUS_OF_ERROR.get(type(exc), HTTPStatus.BAD_REQUEST)
            detail = f"{status.phrase}: this is no HTTP request that can be served ({type(exc).__name__})."
            client.unsent = self._problem(status, detail, "malformed", error=type(exc).__name__)
        else:
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            identifier = new_request_id()
            log_bug(exc, "The service failed on a request outside of the application.", identifier)
            detail = "The service failed on this request; its log says where."
            client.unsent = self._problem(status, detail, status.name.lower(), identifier=identifier)

    def _refuse(self, connection: Connection, status: HTTPStatus, detail: str, code: str) -> None:
        self._metrics.count_refused(code)
        connection.unsent = self._problem(status, f"{status.phrase}: {detail}", code)
        connection.closing = True
        self._flush_or_close(connection)

    def _shed(self, connection: Connection, code: str, close: bool) -> None:
        """Answer that the server is busy."""
        self._metrics.count_refused(code)
        detail = "Service Unavailable: the server is busy, send the request again later."
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
        """Return the answer to a request that never reached the application, counted and logged.

        Args:
            status: The status.
            detail: What to do about it.
            code: Why it was refused, in one of a few words.
            close: Whether the answer ends its connection.
            headers: More headers.
            error: The class of the parser's exception, where there was one.
            identifier: The request's, if it has one.
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
    """Return whether Gunicorn finds the same end of a chunked body; else nobody knows where the next request begins."""
    try:
        while isinstance(request.body, Body) and request.body.read(READ_BYTES):
            pass  # what the application did not want to read
    except Exception:  # noqa: BLE001 - whatever is wrong with it
        return False
    return not getattr(request.body, "failed", False)


def _is_compressed(request: Any) -> bool:
    """Return whether a body may become longer than it looks."""
    return "CONTENT-ENCODING" in dict(request.headers)


def _allow_files(n_files: int) -> None:
    """Raise the soft limit of open files, which is often no more than 1024, as far as it is needed and allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < n_files:
        most = n_files if hard == resource.RLIM_INFINITY else min(n_files, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
