"""Tools that write documents, pictures and manifests, and that measure. None of them runs in production.

They may import service and training. Only tests import them. Most modules are commands: python -m tools.NAME.
"""

from pathlib import Path

ROOT = Path(__file__).parents[1]
