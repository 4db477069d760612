"""What runs in the pod: verifies one artifact, loads it, and answers predictions over HTTP."""

__version__ = "0.1.0"
