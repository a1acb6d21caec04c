"""What workers report of a run, decoded and checked: every offending field named at once."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from tunix_rt.artifacts import ArtifactRoot, StoredArtifact, StoredFile
from tunix_rt.artifacts.digests import MAX_FILES
from tunix_rt.artifacts.locations import check_name
from tunix_rt.contract.digests import check_digest
from tunix_rt.contract.scores import METRIC_KEY
from tunix_rt.errors import InvalidArtifact, Violations
from tunix_rt.registry.runs.reports import Line, Point
from tunix_rt.v1 import common_pb2
from tunix_rt.v1 import runs_pb2 as pb

MAX_POINTS: Final = 5000
MAX_LINES: Final = 5000
# Characters of a log line.
MAX_LINE: Final = 20_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# The years 1 to 9999.
_FIRST_SECOND: Final = -62_135_596_800
_LAST_SECOND: Final = 253_402_300_799


def read_points(request: pb.ReportMetricsRequest, now: datetime, violations: Violations) -> list[Point]:
    """The metric points of a report."""
    violations.check(len(request.points) <= MAX_POINTS, "points", f"at most {MAX_POINTS} in one call")
    points = []
    well_formed: set[str] = set()
    for index, point in enumerate(request.points[:MAX_POINTS]):
        key, step, value = point.key, point.step, point.value
        if key not in well_formed:
            if METRIC_KEY.fullmatch(key) is None:
                violations.add(f"points[{index}].key", "must match [A-Za-z0-9_./-]{1,128}")
            else:
                well_formed.add(key)
        if step < 0:
            violations.add(f"points[{index}].step", "must not be negative")
        if not math.isfinite(value):
            violations.add(f"points[{index}].value", "must be finite")
        time = _instant(point.time.seconds, point.time.nanos) if point.HasField("time") else now
        if time is None:
            violations.add(f"points[{index}].time", "is not a time")
        points.append(Point(key, step, value, time or now))
    return points


def read_lines(request: pb.ReportLogsRequest, now: datetime, violations: Violations) -> list[Line]:
    """The log lines of a report; what is too long is cut, NUL is replaced: a log must not fail the run."""
    violations.check(len(request.lines) <= MAX_LINES, "lines", f"at most {MAX_LINES} in one call")
    lines = []
    for index, line in enumerate(request.lines[:MAX_LINES]):
        violations.check(line.sequence >= 0, f"lines[{index}].sequence", "must not be negative")
        violations.check(line.level in common_pb2.LogLevel.values(), f"lines[{index}].level", "is not a LogLevel")
        time = _instant(line.time.seconds, line.time.nanos) if line.HasField("time") else now
        if time is None:
            violations.add(f"lines[{index}].time", "is not a time")
        known = line.level in common_pb2.LogLevel.values() and line.level != common_pb2.LOG_LEVEL_UNSPECIFIED
        level = common_pb2.LogLevel.Name(line.level).removeprefix("LOG_LEVEL_") if known else "INFO"
        message = line.message.replace("\0", "\N{REPLACEMENT CHARACTER}")[:MAX_LINE]
        lines.append(Line(line.sequence, level, message, time or now))
    return lines


def check_checkpoint(request: pb.RecordCheckpointRequest, root: ArtifactRoot, violations: Violations) -> None:
    """A checkpoint's address, which must lie below ``root``, and digest."""
    found = violations.under("checkpoint")
    checkpoint = request.checkpoint
    found.check(checkpoint.step >= 0, "step", "must not be negative")
    _check_address(checkpoint, root, found)
    violations.check(len(request.removed_steps) <= 10_000, "removed_steps", "at most 10000")


def read_artifact(message: common_pb2.Artifact, root: ArtifactRoot, violations: Violations) -> StoredArtifact:
    """An artifact as a worker stored it below ``root``."""
    _check_address(message, root, violations)
    violations.check(0 < len(message.files) <= MAX_FILES, "files", f"between 1 and {MAX_FILES} are required")
    for index, file in enumerate(message.files[:MAX_FILES]):
        found = violations.under(f"files[{index}]")
        try:
            check_name(file.path)
        except InvalidArtifact as error:
            found.add("path", str(error))
        check_digest(file.digest, "digest", found)
        found.check(file.size_bytes >= 0, "size_bytes", "must not be negative")
    files = tuple(StoredFile(file.path, file.digest, file.size_bytes) for file in message.files)
    return StoredArtifact(message.uri, message.digest, message.size_bytes, files)


def _check_address(stored: common_pb2.Artifact | pb.Checkpoint, root: ArtifactRoot, violations: Violations) -> None:
    try:
        root.locate(stored.uri)
    except InvalidArtifact as error:
        violations.add("uri", str(error))
    check_digest(stored.digest, "digest", violations)
    violations.check(stored.size_bytes >= 0, "size_bytes", "must not be negative")


@lru_cache(maxsize=256)
def _instant(seconds: int, nanos: int) -> datetime | None:
    """A timestamp's time in whole microseconds; None for what is no time. All metrics of a step come with one time."""
    if not (_FIRST_SECOND <= seconds <= _LAST_SECOND and 0 <= nanos < 1_000_000_000):
        return None
    return _EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1000)
