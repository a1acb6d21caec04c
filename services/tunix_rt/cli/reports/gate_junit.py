"""A gate decision as JUnit XML, as CI servers read it (GitLab, Jenkins, GitHub actions that take JUnit).

One test case for the gate, one for the coverage of each evaluation, one for each slice that the policy names:

| what                                   | becomes                                             |
|----------------------------------------|-----------------------------------------------------|
| gate PASS                              | passed                                              |
| gate FAIL                              | failure, type FAIL                                  |
| gate INCONCLUSIVE                      | failure, type INCONCLUSIVE: nothing may be promoted |
| gate INVALID                           | error, type INVALID: the comparison means nothing   |
| coverage under the policy's minimum    | error, type COVERAGE                                |
| critical slice that FAILs              | failure, type SLICE                                 |
| advisory slice that FAILs              | skipped, with the figures: it decides nothing       |
| slice without a pair                   | skipped                                             |

Readers that count failures and errors therefore go red exactly where the exit code is not 0.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

from tunix_rt.cli.reports.gate_facts import GateFacts, coverage_problem, slice_name, slice_numbers
from tunix_rt.client.resources.gates import SliceDecision
from tunix_rt.contract.enums import SliceTier

# What XML 1.0 has no way to write.
_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(facts: GateFacts) -> bytes:
    """The report, UTF-8 with an XML declaration."""
    suite = ElementTree.Element("testsuite", name="tunix-rt gate")
    _gate_case(suite, facts)
    for role, evaluation in (("baseline", facts.baseline), ("candidate", facts.candidate)):
        case = _case(suite, facts, f"coverage of the {role} {evaluation.id}")
        if problem := coverage_problem(facts, evaluation):
            _outcome(case, "error", "COVERAGE", problem)
    for found in facts.decision.slices:
        _slice_case(suite, facts, found)
    counts = {name: str(len(suite.findall(f"testcase/{tag}"))) for name, tag in _COUNTED.items()}
    counts["tests"] = str(len(suite.findall("testcase")))
    for name, value in {**counts, "time": "0"}.items():
        suite.set(name, value)
    suite.set("timestamp", facts.decision.create_time.strftime("%Y-%m-%dT%H:%M:%S"))
    root = ElementTree.Element("testsuites", {"name": "tunix-rt gate", **counts, "time": "0"})
    root.append(suite)
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


_COUNTED = {"failures": "failure", "errors": "error", "skipped": "skipped"}


def _gate_case(suite: ElementTree.Element, facts: GateFacts) -> None:
    decision = facts.decision
    case = _case(suite, facts, f"gate: {decision.candidate_evaluation_id} against {decision.baseline_evaluation_id}")
    needed = f"; about {decision.items_needed} items would decide" if decision.items_needed else ""
    told = f"{facts.verdict}: {decision.explanation}"
    if facts.verdict != "PASS":
        tag = "error" if facts.verdict == "INVALID" else "failure"
        text = f"{told}{'' if needed in told else needed}\n{_numbers(facts)}"
        _outcome(case, tag, facts.verdict, decision.explanation, text)
    _output(case, f"{told}\n{_numbers(facts)}")


def _slice_case(suite: ElementTree.Element, facts: GateFacts, found: SliceDecision) -> None:
    case = _case(suite, facts, f"slice {slice_name(found)}")
    verdict, numbers = found.verdict, slice_numbers(found)
    if verdict == "FAIL" and found.tier is SliceTier.CRITICAL:
        _outcome(case, "failure", "SLICE", numbers)
    elif verdict == "FAIL":
        _outcome(case, "skipped", "ADVISORY", f"worse, but advisory: {numbers}")
    elif verdict == "INCONCLUSIVE":
        _outcome(case, "skipped", "INCONCLUSIVE", "no item of it was scored in both evaluations")
    _output(case, numbers)


def _numbers(facts: GateFacts) -> str:
    decision, stats = facts.decision, facts.decision.statistics
    lines = [f"decision {decision.id}, digest {decision.digest}", f"policy {facts.policy.name} v{facts.policy.version}"]
    if stats.n_paired:
        lines.append(
            f"{facts.metric}: Δ {stats.delta:+.4f} [{stats.ci_low:+.4f}, {stats.ci_high:+.4f}] (95 %, "
            f"{stats.ci_method}) on {stats.n_paired} items, {stats.n_regressions} regressions, {stats.n_fixes} fixes, "
            f"p worse {stats.p_worse:.4f}"
        )
    return "\n".join(lines)


def _case(suite: ElementTree.Element, facts: GateFacts, name: str) -> ElementTree.Element:
    attributes = {"classname": f"tunix_rt.gate.{facts.policy.name}", "name": _legal(name), "time": "0"}
    return ElementTree.SubElement(suite, "testcase", attributes)


def _outcome(case: ElementTree.Element, tag: str, kind: str, message: str, text: str = "") -> None:
    ElementTree.SubElement(case, tag, {"type": kind, "message": _legal(message)}).text = _legal(text or message)


def _output(case: ElementTree.Element, text: str) -> None:
    ElementTree.SubElement(case, "system-out").text = _legal(text)


def _legal(text: str) -> str:
    return _ILLEGAL.sub("\ufffd", text)
