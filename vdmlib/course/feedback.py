"""What is made of a trial: points, a page for the student, a table for the teacher, and how the class did."""

import ast
import contextlib
import csv
import difflib
import io
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .parts import Assignment, Part
from .submissions import Program, Submission

# Nothing that an exercise needs: whoever writes it has a reason that a person should see.
_UNUSUAL = re.compile(
    r"_getframe|currentframe|inspect\.stack|\bf_back\b|\bf_globals\b|\btb_frame\b|\bgc\.|\bctypes\b|\bos\._exit\b"
    r"|\bos\.(?:kill|write|fork|system)\b|\bsubprocess\b|\bsocket\b|/proc/|\bassignment_\d|vdmlib\.grade|__code__"
    r"|\bsys\.modules\b|torch\.library|__array_interface__|as_strided|__subclasses__|[Ss]olutions?[/\\]|__class__\s*=|\bsetattr\(\s*(?:torch|vdmlib|builtins)"
)


@dataclass(frozen=True)
class Grade:
    """Of one submission.

    Attributes:
        name: whose; source: which file or folder.
        points: part → what it earned.
        held: part → sentence → whether it holds, hidden ones included.
        notes: what went wrong; unusual: what a person should look at.
        page: the feedback, in Markdown.
        seconds: that grading took.
    """

    name: str
    source: str
    points: Mapping[str, float] = field(default_factory=dict)
    held: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    unusual: Sequence[str] = ()
    page: str = ""
    seconds: float = 0.0

    @property
    def total(self) -> float:
        """Points of all parts."""
        return round(sum(self.points.values()), 2)

    def as_mapping(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)


def grade_of(
    submission: Submission, program: Program, found: Mapping[str, Any], assignment: Assignment, seconds: float
) -> Grade:
    """Points and page, from what was found out."""
    points, held, body = {}, {}, []
    for part in assignment.parts:
        report = found.get("parts", {}).get(part.name, {"missing": None, "groups": {}})
        points[part.name] = round(part.points * _share(part, report["groups"]), 2)
        held[part.name] = {s: h for group in report["groups"].values() for s, (h, _) in _sentences(group).items()}
        body += ["", f"## {part.name}: {points[part.name]:g} of {part.points} points", "", *_lines(part, report)]
    notes = [submission.fault or program.fault] if submission.fault or program.fault else []
    cells = sorted((int(number), error) for number, error in found.get("cells", {}).items())
    notes += [f"cell {number + 1}: {error}" for number, error in cells if not _is_a_stub(error)]
    unusual = sorted({match[0] for source in _sources(program) for match in _UNUSUAL.finditer(source)})
    unusual += _ruled_out(assignment, _sources(program))
    unusual += found.get("unusual", ())
    total = round(sum(points.values()), 2)
    head = [
        f"# {plain(submission.name)}: assignment {assignment.number}, {assignment.title}",
        "",
        f"**{total:g} of {assignment.points} points** in the parts that are graded by their properties.",
    ]
    if assignment.rubric:
        rubric = ", ".join(f"{what} ({worth})" for what, worth in assignment.rubric)
        head += ["", f"Read by a person, and not counted here: {rubric}."]
    if notes:
        head += ["", "What went wrong while it was executed:", "", *(f"- `{plain(note)}`" for note in notes)]
    page = "\n".join([*head, *body]) + "\n"
    return Grade(submission.name, submission.source, points, held, notes, unusual, page, round(seconds, 1))


def _ruled_out(assignment: Assignment, sources: Sequence[str]) -> list[str]:
    """What the text of a part rules out and its function or class uses itself."""
    nodes: list[ast.AST] = []
    for source in sources:
        with contextlib.suppress(SyntaxError, ValueError, RecursionError):
            nodes += ast.parse(source).body
    found = set()
    for part in (part for part in assignment.parts if part.without):
        for node in (node for node in nodes if getattr(node, "name", "") == part.name):
            used = {ast.unparse(name) for name in ast.walk(node) if isinstance(name, ast.Attribute | ast.Name)}
            found |= {f"{part.name} uses {name}" for name in used if re.search(part.without, name)}
    return sorted(found)


def _is_a_stub(error: str) -> bool:
    return error.startswith("NotImplementedError")


def _sources(program: Program) -> list[str]:
    scripts = [data.decode("utf-8", "replace") for path, data in program.files.items() if path.endswith(".py")]
    return [*program.cells, *scripts]


def _sentences(group: Mapping[str, Any]) -> dict[str, tuple[bool, str]]:
    """Sentence → whether it holds with every seed, and the first reason why not."""
    found = {}
    for sentence, by_seed in group["tests"].items():
        results = [result or [False, "it was not tried: too much had failed before"] for result in by_seed.values()]
        reason = next((reason for holds, reason in results if not holds), "")
        found[sentence] = all(holds for holds, _ in results) and not group["broken"], reason
    return found


def _share(part: Part, groups: Mapping[str, Any]) -> float:
    def share(name: str) -> float:
        results = _sentences(groups[name]) if name in groups else {}
        return sum(holds for holds, _ in results.values()) / len(results) if results else 0.0

    return share("properties") if part.hidden is None else (share("properties") + share("hidden")) / 2


def _lines(part: Part, report: Mapping[str, Any]) -> list[str]:
    """What a student reads of one part; of a hidden property its sentence alone."""
    if report["missing"] is not None:
        near = difflib.get_close_matches(part.name, report["missing"], 1, 0.6)
        rename = f" Is it `{near[0]}`? Then rename it." if near and near[0].isidentifier() else ""
        return [f"There is no `{part.name}`, or an error came before it.{rename}"]
    if not report["groups"]:
        return ["It was not tried."]
    if all(group["stub"] for group in report["groups"].values()):
        return ["Not written yet."]
    lines = []
    for name, group in report["groups"].items():
        if group["broken"]:
            reason = group["broken"] if name != "hidden" else group["broken"].split(":")[0]
            lines.append(
                f"- **fails** · {'hidden properties' if name == 'hidden' else 'it can be used'}: `{plain(reason)}`"
            )
        for sentence, (holds, reason) in _sentences(group).items():
            lines.append(f"- {'holds' if holds else '**fails**'} · {sentence}{_why(name, reason) if not holds else ''}")
            if not holds and (hint := part.hint(sentence, reason)):
                lines.append(f"  - hint: {hint}")
    return lines


def _why(group: str, reason: str) -> str:
    reason = reason.split(":")[0] if group == "hidden" else reason  # what was raised there may show the test
    return f" (`{plain(reason)}`)" if reason else ""


def plain(said: str) -> str:
    """What somebody else has written, in one short line that is no markup."""
    return re.sub(r"[`<>|\[\]\x00-\x1f\x7f\ud800-\udfff]+", " ", said).strip()[:200]


# The class ------------------------------------------------------------------------------------------------------


def table(grades: Sequence[Grade], assignment: Assignment) -> str:
    """As CSV: a line for each submission, with the points of each part."""
    names = [part.name for part in assignment.parts]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["student", "submission", "points", "of", *names, "notes", "look at", "seconds"])
    for grade in grades:
        earned = [f"{grade.points.get(name, 0.0):g}" for name in names]
        words = [cell(*said) for said in (grade.notes, grade.unusual)]
        whose = [cell(grade.name), cell(grade.source)]
        writer.writerow([*whose, f"{grade.total:g}", assignment.points, *earned, *words, grade.seconds])
    return file.getvalue()


def cell(*said: str) -> str:
    """What somebody else has written, as text that no spreadsheet takes for a formula."""
    words = "; ".join(map(plain, said))
    return f"'{words}" if words[:1] in ("=", "+", "-", "@") else words


def class_statistics(grades: Sequence[Grade], assignment: Assignment) -> str:
    """In Markdown: how the class did, in each part, and with each property."""
    totals = [grade.total for grade in grades]
    lines = [f"# Assignment {assignment.number}, {assignment.title}: {len(grades)} submissions", ""]
    lines += ["| | points | mean | median | lowest | highest | all points |", "|---|---|---|---|---|---|---|"]
    rows = [("all parts", assignment.points, totals)]
    rows += [(part.name, part.points, [g.points.get(part.name, 0.0) for g in grades]) for part in assignment.parts]
    for name, most, points in rows:
        full = sum(value == most for value in points)
        numbers = (statistics.mean(points), statistics.median(points), min(points), max(points))
        lines.append(f"| {name} | {most} | " + " | ".join(f"{n:.4g}" for n in numbers) + f" | {full} |")
    lines += ["", "| part | property | holds for |", "|---|---|---|"]
    for part in assignment.parts:
        sentences = dict.fromkeys(s for grade in grades for s in grade.held.get(part.name, {}))
        for sentence in sentences:
            count = sum(grade.held.get(part.name, {}).get(sentence, False) for grade in grades)
            lines.append(f"| {part.name} | {plain(sentence)} | {count} of {len(grades)} |")
    return "\n".join(lines) + "\n"
