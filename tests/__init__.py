"""The tests; the folder says what a test needs."""

import os

# As in a serving process: several processes whose OpenMP threads spin for the same processors take ten times as long.
os.environ["OMP_NUM_THREADS"] = "1"
