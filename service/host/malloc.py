"""How the C library keeps memory: what a large request needed is kept for the next one, not by every thread."""

import ctypes

# mallopt(3); its defaults are an arena for each thread, and a page fault for every 4 KiB of each large request.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
KEPT_BYTES = 64 * 1024**2  # a body of 8 MiB needs about as much while it is read
LARGEST_FROM_HEAP_BYTES = 32 * 1024**2  # glibc takes no more
OPTIONS = {M_ARENA_MAX: 1, M_MMAP_THRESHOLD: LARGEST_FROM_HEAP_BYTES, M_TRIM_THRESHOLD: KEPT_BYTES}


def tune_malloc() -> bool:
    """Set the options above, and return whether the C library knows them; only glibc does."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    set_ones = [option for option, value in OPTIONS.items() if mallopt and mallopt(option, value)]
    return len(set_ones) == len(OPTIONS)
