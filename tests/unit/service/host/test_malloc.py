"""What the C library is told about memory, in a process of its own, because it stays told."""

import platform
import subprocess
import sys

import pytest

from tests.conftest import ROOT

CODE = """
import ctypes, re, threading
from service.host.malloc import tune_malloc
print(tune_malloc())
blocks = []
threads = [threading.Thread(target=lambda: blocks.append(ctypes.CDLL(None).malloc(1000))) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
ctypes.CDLL(None).malloc_stats()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_threads_share_one_arena() -> None:
    """Each of its own would keep what its largest request needed."""
    done = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
    assert done.stderr.count("Arena ") == 1
