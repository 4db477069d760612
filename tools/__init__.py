"""What writes documents, pictures and manifests, and what measures; nothing of it runs in production.

May import service and training; only tests import it. Most modules are commands: python -m tools.NAME.
"""

from pathlib import Path

ROOT = Path(__file__).parents[1]
