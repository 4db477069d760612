"""Loading, ready, draining."""

import os
from collections.abc import Callable

from service.api.readiness import Lifecycle
from service.inference.model import Model


def test_a_server_is_not_ready_until_its_model_is_loaded(model_of: Callable[[str], Model]) -> None:
    """Traffic is welcome only in between."""
    lifecycle = Lifecycle()
    assert lifecycle.not_ready_because() == "The model is being loaded."
    lifecycle.served = model_of("house_prices").artifact
    assert lifecycle.not_ready_because() == ""
    lifecycle.begin_drain()
    assert lifecycle.not_ready_because() == "The server is draining: it is about to stop."


def test_two_servers_drain_by_themselves() -> None:
    """The flag belongs to one server, not to the process."""
    one, other = Lifecycle(), Lifecycle()
    one.begin_drain()
    assert (one.draining, other.draining) == (True, False)


def test_a_forked_process_learns_of_the_drain() -> None:
    """The master's flag is seen by the processes it forked before."""
    lifecycle = Lifecycle()
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(told, 1)
        os._exit(int(lifecycle.draining))
    lifecycle.begin_drain()
    os.write(tell, b"!")
    _, status = os.waitpid(pid, 0)
    os.close(told)
    os.close(tell)
    assert os.waitstatus_to_exitcode(status) == 1
