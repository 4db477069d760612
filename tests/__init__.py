"""The tests; the folder says what a test needs."""

import os
import sys

# As in a serving process: several processes whose OpenMP threads spin for the same processors take ten times as long.
os.environ["OMP_NUM_THREADS"] = "1"
# Tests look at what a bake leaves beside a model file; Python's own cache of the file is not of the bake.
sys.dont_write_bytecode = True
