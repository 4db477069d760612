"""Clients that predict without pause and count what they are answered: a program for this machine and for a pod.

    python clients.py start SOCKET '{"url": "https://house.example.com", "connect_to": "10.0.0.1", "ca": "PEM",
                                     "keep_alive": 16, "reconnecting": 4, "body": {...},
                                     "expected": {"v1": {"y_pred": [...]}}}'
    python clients.py report SOCKET
    python clients.py stop SOCKET

`start` leaves them running by themselves, so that no stream into a pod has to last as long as they do; the other two
print the counts as JSON. A request that fails is never sent again. It needs nothing but Python, so that it can be given
to `python -c` in any pod.
"""

import collections
import http.client
import json
import math
import os
import socket
import ssl
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

HEADERS = {"Content-Type": "application/json"}
TIMEOUT_SECONDS = 30
MAX_KEPT = 10_000
ALONE_SECONDS = 15 * 60  # without a question, then nobody is there to stop them


class Clients:
    """The clients of one run and what they count."""

    def __init__(self, configuration):
        self.configuration = configuration
        url = urlsplit(configuration["url"])
        self.host, self.port = url.hostname, url.port or (443 if url.scheme == "https" else 80)
        self.address = configuration.get("connect_to") or self.host
        self.tls = ssl.create_default_context(cadata=configuration.get("ca")) if url.scheme == "https" else None
        self.body = json.dumps(configuration["body"])
        self.lock = threading.Lock()
        self.stop = threading.Event()
        self.started = time.time()
        self.connections = 0
        self.answers = collections.Counter()  # by model version
        self.last_sent = {}  # by model version: when the last request was sent that it answered
        self.failures = []  # (when sent, what happened), the first ones
        self.failed = 0
        n_kept = configuration.get("keep_alive", 0)
        kinds = [True] * n_kept + [False] * configuration.get("reconnecting", 0)
        self.threads = [threading.Thread(target=self.run, args=(keep_alive,)) for keep_alive in kinds]

    def connect(self):
        """Return a connection; its TLS and Host are those of the URL wherever it leads."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=TIMEOUT_SECONDS)
        stream = socket.create_connection((self.address, self.port), timeout=TIMEOUT_SECONDS)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sock = self.tls.wrap_socket(stream, server_hostname=self.host) if self.tls else stream
        with self.lock:
            self.connections += 1
        return connection

    def run(self, keep_alive):
        """Send one request after the other."""
        connection = None
        while not self.stop.is_set():
            sent = time.time()
            try:
                connection = connection or self.connect()
                headers = HEADERS if keep_alive else {**HEADERS, "Connection": "close"}
                connection.request("POST", "/predict", self.body, headers)
                response = connection.getresponse()
                content = response.read()
                problem = "" if response.status == 200 else f"{response.status} {content[:200]!r}"
                closes = response.will_close or not keep_alive
            except (OSError, http.client.HTTPException) as error:
                problem, closes = f"{type(error).__name__}: {error}", True
            if problem:
                self.fail(sent, problem)
                time.sleep(0.05)  # as a caller does that is refused
            else:
                self.count(sent, json.loads(content))
                time.sleep(self.configuration.get("pause_seconds", 0))
            if closes and connection:
                connection.close()
                connection = None

    def count(self, sent, answer):
        """Count an answer, if it is the right one for the model version that it names."""
        version = answer["model"]["version"]
        expected = self.configuration["expected"].get(version)
        right = expected is not None and all(
            math.isclose(got, wanted, rel_tol=1e-6)
            for got, wanted in zip(answer["y_pred"], expected["y_pred"], strict=True)
        )
        if not right:
            self.fail(sent, f"wrong answer of {version}: {answer['y_pred']}")
            return
        with self.lock:
            self.answers[version] += 1
            self.last_sent[version] = max(sent, self.last_sent.get(version, 0))

    def fail(self, sent, problem):
        """Count a request that got no good answer."""
        with self.lock:
            self.failed += 1
            if len(self.failures) < MAX_KEPT:
                self.failures.append([sent, problem])

    def report(self):
        """Return the counts so far."""
        with self.lock:
            return {
                "seconds": time.time() - self.started,
                "good": sum(self.answers.values()),
                "failed": self.failed,
                "connections": self.connections,
                "answers": dict(self.answers),
                "last_sent": dict(self.last_sent),
                "failures": list(self.failures),
            }


def start(path, configuration):
    """Start clients that go on when this returns, and answer questions at a socket."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        if os.fork():
            return
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(nowhere, descriptor)
        listener.settimeout(ALONE_SECONDS)
        try:
            run(Clients(configuration), listener)
        finally:
            Path(path).unlink()


def run(clients, listener):
    """Run clients and answer questions until one of them is to stop."""
    for thread in clients.threads:
        thread.start()
    try:
        while not clients.stop.is_set():
            connection, _ = listener.accept()
            with connection:
                if connection.recv(100) == b"stop":
                    clients.stop.set()
                    for thread in clients.threads:
                        thread.join()
                connection.sendall(json.dumps(clients.report()).encode())
    finally:
        clients.stop.set()


def ask(path, question):
    """Print what running clients answer to a question."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(question.encode())
        with connection.makefile() as answer:
            print(answer.read())


def main():
    """Do what the command line says."""
    command, path, *rest = sys.argv[1:]
    if command == "start":
        start(path, json.loads(*rest))
    else:
        ask(path, command)


if __name__ == "__main__":
    main()
