"""What runs in the pod: it verifies one artifact, loads it, and answers predictions over HTTP.

Start reading at __main__.py (commands), server/application.py (processes) or api/predict.py (one prediction).
Import contracts between the packages are in pyproject.toml; `make lint` checks them.
"""

__version__ = "0.1.0"
