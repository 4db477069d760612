"""python -m tools.bench: measure, print the table, and write docs/explanation/performance.{md,json,svg}."""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from service.host.cpu import request_threads
from tools import ROOT
from tools.bench.client import require_wrk
from tools.bench.measure import PARTS, QUICK, Bench, Effort
from tools.bench.models import FILES, FOREST, BenchError, bake
from tools.bench.picture import picture
from tools.bench.report import block, with_numbers

PAGE, RESULTS, PICTURE = (ROOT / "docs/explanation" / f"performance.{kind}" for kind in ("md", "json", "svg"))
LIBRARIES = ("gunicorn", "flask", "orjson", "numpy", "scikit-learn", "onnxruntime", "treelite")
OVERLOAD_ENGINE = "scikit-learn"  # slow enough that a client can send five times what it answers
EXIT_FAILED = 1


def main(arguments: list[str] | None = None) -> int:
    """Measure or render; wrong answers and missing tools are one sentence on standard error and exit code 1."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.write and options.only:
        parser.error("--write is for whole runs: a page with parts of several runs would compare what cannot be")
    try:
        if options.render:
            write(json.loads(RESULTS.read_text()))
            return 0
        require_wrk()
        results = run(options)
    except BenchError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_FAILED
    print(block(results))
    if options.write or not (options.quick or options.only):
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        write(results)
        print(f"Written to {', '.join(str(path.relative_to(ROOT)) for path in (PAGE, RESULTS, PICTURE))}.")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter measurements, to try it out")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=f"measure these: {', '.join(PARTS)}")
    parser.add_argument("--write", action="store_true", help="write the page after --quick, too")
    parser.add_argument("--render", action="store_true", help="write page and picture from the JSON; measure nothing")
    parser.add_argument("--artifacts", type=Path, metavar="DIR", help="keep the baked models there, for the next run")
    return parser


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Bake the models, measure the parts that are wanted, and return the results.

    Raises:
        BenchError: If a bake fails or an answer is wrong.
    """
    started = time.monotonic()

    def report(what: str) -> None:
        sys.stderr.write(f"{time.monotonic() - started:6.1f} s  {what}\n")

    machine = machine_facts()
    with tempfile.TemporaryDirectory(prefix="bakehouse-bench-") as temporary:
        folder = (options.artifacts or Path(temporary)).resolve()
        report("baking the models")
        models = {name: bake(name, folder) for name in FILES}
        overloaded = bake(FOREST, folder, OVERLOAD_ENGINE)
        bench = Bench(models, overloaded, QUICK if options.quick else Effort(), report)
        measured = {}
        for name in options.only or PARTS:
            report(f"measuring {name}")
            measured[name] = PARTS[name](bench)
    report("done")
    effort = asdict(bench.effort)
    return {"machine": machine, "quick": options.quick, "effort": effort, "engines": bench.engines, **measured}


def machine_facts() -> dict[str, Any]:
    """Return what the numbers depend on."""
    processor = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit.stdout.strip() or "unknown",
        "cpu": processor[0].partition(": ")[2] if processor else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
        "threads": request_threads(1),
        "openblas_coretype": os.environ.get("OPENBLAS_CORETYPE", ""),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in LIBRARIES},
    }


def write(results: dict[str, Any]) -> None:
    """Write the page and the picture."""
    PAGE.write_text(with_numbers(PAGE.read_text(), results))
    PICTURE.write_text(picture(results))


if __name__ == "__main__":
    sys.exit(main())
