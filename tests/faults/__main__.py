"""`python -m tests.faults`: runs rows of the fault matrix on real processes and prints the table.

Exit code 1 if any row fails. `--rows 1,4,10` chooses, `--scale 0.1` makes it shorter, `--json FILE` keeps the figures.
"""

import argparse
import json
import os
import signal
import sys
from pathlib import Path

from tests.faults import broker_faults, disk_faults, ingest_kills, input_faults, model, rules_faults, store_faults
from tests.faults.outcome import table

_MATRIX = (ingest_kills, store_faults, broker_faults, disk_faults, rules_faults, input_faults)
ROWS = {row.number: row for row in sorted((r for theme in _MATRIX for r in theme.ROWS), key=lambda r: int(r.number))}
ROWS |= {row.number: row for row in model.ROWS}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--rows", default=",".join(ROWS), help="numbers of the matrix, separated by commas")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the matrix's counts and durations")
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    chosen = arguments.rows.split(",")
    if unknown := [number for number in chosen if number not in ROWS]:
        parser.error(f"there is no row {', '.join(unknown)}; there are {', '.join(ROWS)}")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # so that nothing is left running
    lines = []
    for number in chosen:
        row = ROWS[number]
        print(f"row {number}: {row.fault} ...", end=" ", flush=True, file=sys.stderr)
        line = row.run(arguments.scale)
        words = "passed" if line.outcome.passed else f"FAILED ({'; '.join(line.outcome.failures)})"
        print(f"{words} in {line.seconds:.0f} s", flush=True, file=sys.stderr)
        lines.append(line)
    print(f"\n{table(lines)}\n\nload average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores at the end")
    if arguments.json:
        arguments.json.write_text(json.dumps([line.document() for line in lines], indent=1) + "\n")
    return 0 if all(line.outcome.passed for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
