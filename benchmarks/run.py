"""`make bench`: measures the stages one after the other, prints the table, and writes RESULTS.md with the machine.

Each script is a process of its own, so that none finds memory that another one left. With names, only these are measured,
and only their sections of the page are written anew; those of other scripts stay as they are.
"""

import json
import subprocess
import sys
from pathlib import Path

from reporting import Row, machine, markdown, show

HERE = Path(__file__).resolve().parent
SCRIPTS = ("build_dataset", "build_contrast", "batch_infer", "growth", "read_records", "estimate", "train", "start_up")
MEASURE = "import json, sys, {0}; print(json.dumps([row._asdict() for row in {0}.measure()]))"
PAGE = """# Results

Written by `make bench`; CPU time, medians of alternating repetitions, each path beside its baseline in the same run.
Every line is explained at the top of its script in this folder.

{machine}
"""


def measured(script: str) -> list[Row]:
    """Return the lines that a script measures, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", MEASURE.format(script)], cwd=HERE, stdout=subprocess.PIPE, text=True)  # noqa: S603
    if done.returncode:
        raise SystemExit(f"{script}: failed")
    return [Row(**line) for line in json.loads(done.stdout.splitlines()[-1])]


def main(names: list[str]) -> None:
    """Measure, print and write."""
    page = HERE / "RESULTS.md"
    before = page.read_text(encoding="utf-8").split("\n## ")[1:] if page.exists() else []
    sections = {section.partition("\n")[0]: section for section in before}
    for script in names or SCRIPTS:
        lines = measured(script)
        show(lines)
        sections[script] = f"{script}\n\n{markdown(lines)}"
        text = "".join(
            f"\n## {sections[name].rstrip()}\n" for name in dict.fromkeys((*SCRIPTS, *sections)) if name in sections
        )
        page.write_text(PAGE.format(machine=machine()) + text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
