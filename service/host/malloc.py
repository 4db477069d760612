"""Tunes the C library's allocator: it keeps the memory of a large request for the next one, and not in every thread."""

import ctypes

# See mallopt(3). By default, each thread has an arena, and each large request has a page fault for every 4 KiB.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
TRIM_BYTES = 64 * 1024**2  # reading a body of 8 MiB needs about this much
LARGEST_FROM_HEAP_BYTES = 32 * 1024**2  # glibc does not allow more
OPTIONS = {M_ARENA_MAX: 1, M_MMAP_THRESHOLD: LARGEST_FROM_HEAP_BYTES, M_TRIM_THRESHOLD: TRIM_BYTES}


def tune_malloc() -> bool:
    """Set the options above. Return whether the C library supports them: only glibc does."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    accepted = [option for option, value in OPTIONS.items() if mallopt and mallopt(option, value)]
    return len(accepted) == len(OPTIONS)
