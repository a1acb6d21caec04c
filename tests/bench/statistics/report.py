"""Whether the statistics keep what they promise: interval coverage, errors of the gate, power at the stated difference.

    make bench-statistics
    python report.py --json out.json

Exact by enumeration where the values are right or wrong; seeded simulation for graded and clustered ones. Exits 1 when
a figure that is promised is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import detectable
import gate_clusters
import gate_errors
import interval_coverage
from gate_clusters import ClusterErrors, Worst
from interval_coverage import Coverage
from rich.console import Console
from rich.table import Table

AVERAGE_COVERAGE = (0.94, 0.97)
MOST_ERRORS = 0.06
# Standard errors of a simulated share that are no miss; what is above `gate_clusters.SUSPECT` has many replicates.
CHANCE = 2.5
POWER = (0.77, 0.83)


def main() -> int:
    """Measure, print, and say whether everything promised is kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    given = parser.parse_args()
    started = time.monotonic()
    kinds = (interval_coverage.exact, interval_coverage.graded, interval_coverage.clustered)
    covered = [measure(n) for measure in kinds for n in interval_coverage.SIZES]
    erring = [gate_errors.errors(n, share) for n in gate_errors.SIZES for share in gate_errors.DISCORDANCES]
    clustered = [
        gate_clusters.measure(values, n, size)
        for values in ("binary", "graded")
        for n in gate_clusters.SIZES
        for size in gate_clusters.CLUSTER_SIZES
    ]
    # Discordances that are raised to the same difference are one row.
    powers = list(
        dict.fromkeys(detectable.at_detectable(n, d) for n in detectable.SIZES for d in detectable.DISCORDANCES)
    )
    needed = [detectable.at_needed(*effect) for effect in detectable.EFFECTS]
    graded = [detectable.graded(n) for n in detectable.GRADED_SIZES]

    console = Console(width=130)
    console.print(
        coverage_table(covered),
        errors_table(erring),
        clusters_table(clustered),
        power_table([*powers, *needed, *graded]),
    )
    missed = misses(covered, erring, [*powers, *needed, *graded]) + cluster_misses(clustered)
    console.print("every promise is kept" if not missed else "\n".join(missed))
    console.print(f"{time.monotonic() - started:.0f} s")
    if given.json:
        document = {
            "coverage": [asdict(each) for each in covered],
            "gate": [asdict(each) for each in erring],
            "clusters": [asdict(each) for each in clustered],
            "power": [asdict(each) for each in [*powers, *needed, *graded]],
            "missed": missed,
        }
        given.json.write_text(json.dumps(document, indent=1) + "\n")
    return bool(missed)


def misses(
    covered: Sequence[Coverage], erring: Sequence[gate_errors.Errors], powers: Sequence[detectable.Power]
) -> list[str]:
    """What is promised and not kept; intervals of items in few clusters may be too wide."""
    low, high = AVERAGE_COVERAGE
    found = [
        f"coverage of {each.values}, n = {each.n}: {each.average:.4f} on average"
        for each in covered
        if not (low <= each.average <= high or ("clusters" in each.values and each.average > high))
    ]
    for each in erring:
        for name, share in (("false PASS", each.false_pass), ("false FAIL", each.false_fail)):
            if share is not None and share > MOST_ERRORS:
                found.append(f"{name}, n = {each.n}, discordance {each.discordance:g}: {share:.4f}")
    return found + [
        f"power at the stated {each.values}, n = {each.n}, discordance {each.discordance:g}: {each.power:.4f}"
        for each in powers
        if not POWER[0] <= each.power <= POWER[1]
    ]


def cluster_misses(rows: Sequence[ClusterErrors]) -> list[str]:
    """Errors above what is promised by more than chance."""
    found = []
    for each in rows:
        for name, worst in (("PASS", each.false_pass), ("FAIL", each.false_fail), ("slice FAIL", each.slice_fail)):
            if worst.share > MOST_ERRORS + CHANCE * (MOST_ERRORS * (1 - MOST_ERRORS) / worst.replicates) ** 0.5:
                found.append(
                    f"false {name}, {each.values}, n = {each.n}, clusters of {each.cluster_size}, {worst.at}: "
                    f"{worst.share:.4f}"
                )
    return found


def clusters_table(rows: Sequence[ClusterErrors]) -> Table:
    """Largest errors of the gate per kind of values, n and cluster size."""
    title = "The gate on clusters, correlation 0 to 0.8, discordance 2 to 30 %, at most (simulated)"
    columns = ("values", "n", "clusters of", "PASS at a drop of the margin", "FAIL at no change", "of a slice")
    table = Table(*columns, "PASS at no change*", title=title, caption="* at discordance 10 %, correlation 0")
    for each in rows:
        shares = [_share(worst) for worst in (each.false_pass, each.false_fail, each.slice_fail)]
        table.add_row(each.values, str(each.n), str(each.cluster_size), *shares, f"{each.true_pass:.0%}")
    return table


def _share(worst: Worst) -> str:
    return f"{worst.share:.1%}"


def coverage_table(rows: Sequence[Coverage]) -> Table:
    """Average and worst coverage per kind of values and n."""
    table = Table(
        "values", "interval", "n", "average", "worst", "at", title="Coverage of the scorecard's 95 % interval"
    )
    for each in rows:
        table.add_row(each.values, each.method, str(each.n), f"{each.average:.1%}", f"{each.worst:.1%}", each.worst_at)
    return table


def errors_table(rows: Sequence[gate_errors.Errors]) -> Table:
    """Errors of the gate per n and discordance."""
    title = f"The gate at margin {gate_errors.POLICY.margin:g} and α {gate_errors.POLICY.alpha:g}, exactly"
    table = Table(
        "n", "discordance", "PASS at a drop of the margin", "FAIL at no change", "PASS at no change", title=title
    )
    for each in rows:
        false_pass = "" if each.false_pass is None else f"{each.false_pass:.2%}"
        table.add_row(
            str(each.n), f"{each.discordance:.0%}", false_pass, f"{each.false_fail:.2%}", f"{each.true_pass:.1%}"
        )
    return table


def power_table(rows: Sequence[detectable.Power]) -> Table:
    """Power at what is stated."""
    table = Table("at the stated", "n", "discordance", "difference", "power", title="Power, two-sided at 5 %")
    for each in rows:
        table.add_row(
            each.values, str(each.n), f"{each.discordance:.4f}", f"{each.difference:.4f}", f"{each.power:.2%}"
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
