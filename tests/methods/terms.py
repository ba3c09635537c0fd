"""Which terms a plan uses, by the names of the columns of docs/plan.md's table."""

from pathlib import Path

from fedlps.engine.plan import Job, Learned, Pass, Plan, Segment

TABLE = Path(__file__).parents[2] / "docs" / "plan.md"
COLUMNS = (
    "units", "Learned", "mask", "depth", "segments", "trains", "carry_velocity", "after", "after_gradient", "passes",
    "batch", "at", "widths", "teacher", "start", "pulls", "scale", "penalty", "mutual", "personal", "probes",
)  # fmt: skip


def used(plan: Plan, units: int) -> set[str]:
    """The columns; of probes their names. units: of the whole model."""
    return set(plan.probes).union(*(_job(job, units) for job in plan.jobs))


def _job(job: Job, units: int) -> set[str]:
    flags = {
        "units": sum(job.hold.counts) < units,
        "Learned": isinstance(job.hold.units, Learned),
        "mask": job.hold.mask is not None,
        "depth": job.hold.depth is not None,
        "segments": len(job.segments) > 1,
        "start": job.start is not None,
        "pulls": bool(job.pulls),
        "scale": job.scale is not None,
        "penalty": job.penalty != 0,
        "mutual": job.mutual != 0,
        "personal": job.destination == "personal",
    }
    return {name for name, flag in flags.items() if flag}.union(*map(_segment, job.segments))


def _segment(segment: Segment) -> set[str]:
    flags = {
        "trains": segment.trains is not None,
        "carry_velocity": segment.carry_velocity,
        "after": segment.after is not None,
        "after_gradient": segment.after_gradient,
        "passes": len(segment.passes) > 1,
    }
    return {name for name, flag in flags.items() if flag}.union(*map(_pass, segment.passes))


def _pass(one: Pass) -> set[str]:
    flags = {
        "batch": one.batch != 0, "at": bool(one.at), "widths": one.widths is not None,
        "teacher": one.teacher is not None,
    }  # fmt: skip
    return {name for name, flag in flags.items() if flag}


def documented() -> dict[str, tuple[set[str], set[str]]]:
    """Per method of the table: what it always uses, and what it uses sometimes."""
    lines = [line for line in TABLE.read_text().splitlines() if line.startswith("| ")]
    head = next(position for position, line in enumerate(lines) if line.startswith("| method |"))
    names = [cell.strip() for cell in lines[head].strip("|").split("|")][1:]
    assert tuple(name.strip("`") for name in names) == COLUMNS
    found = {}
    for line in lines[head + 1 :]:
        method, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        always = {name for name, cell in zip(COLUMNS, cells, strict=True) if cell == "x"}
        sometimes = {name for name, cell in zip(COLUMNS, cells, strict=True) if cell == "o"}
        probes = [probe.strip("`") for probe in cells[-1].split()]
        always |= {probe for probe in probes if not probe.endswith("?")}
        found[method] = (always, sometimes | {probe.rstrip("?").strip("`") for probe in probes if probe.endswith("?")})
    return found
