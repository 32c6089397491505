"""A run in two files: its report, and an archive of everything the report is made from.

What comes back from a lent machine should be few files and small ones. The archive unpacks to a run
folder that `canvasbench report` and `resume` take.
"""

import tarfile
from pathlib import Path

COMPACT = "compact"
_LEFT_OUT = {COMPACT, "plots", "report.html", ".lock"}


def write_compact(run_folder: Path) -> Path:
    """Writes `compact/run.tar.gz` and `compact/report.html`, whole or as they were before.

    Returns:
        the folder.
    """
    folder = run_folder / COMPACT
    folder.mkdir(exist_ok=True)
    part = folder / "run.tar.gz.part"
    with tarfile.open(part, "w:gz") as archive:
        for path in sorted(run_folder.iterdir()):
            if path.name not in _LEFT_OUT:
                archive.add(path, f"{run_folder.name}/{path.name}")
    part.replace(folder / "run.tar.gz")
    report = run_folder / "report.html"
    if report.exists():
        (folder / "report.html").write_bytes(report.read_bytes())
    return folder
