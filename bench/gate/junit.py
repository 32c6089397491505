"""A gate's decisions as JUnit XML, which CI systems show as tests.

A metric of a point is a test case: failed, in error where nothing could be decided, or passed. So
no reader of it takes an undecided gate for a green one.
"""

import re
from xml.etree import ElementTree

from bench.gate.decide import Decided, Outcome
from bench.gate.show import causes, headline, values

_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def junit(decided: Decided) -> str:
    """One test suite; the gate's hash is a property of it."""
    failures = sum(d.outcome is Outcome.FAILED for d in decided.decisions)
    errors = sum(d.outcome is Outcome.UNDECIDED for d in decided.decisions)
    nothing = not decided.decisions
    counts = {
        "tests": str(len(decided.decisions) + nothing),
        "failures": str(failures),
        "errors": str(errors + nothing),
    }
    root = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(root, "testsuite", {"name": _text(decided.gate.name), **counts})
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in (
        ("gate sha256", decided.gate.sha256),
        ("baseline", decided.comparison.baseline.name),
        ("candidate", decided.comparison.candidate.name),
        *((f"differs: {d.name}", str(d)) for d in decided.comparison.environment),
        *((f"note on {p.point_id}", note) for p in decided.comparison.points for note in p.notes),
    ):
        given = {"name": _text(name), "value": _text(value)}
        ElementTree.SubElement(properties, "property", given)
    for decision in decided.decisions:
        case = _case(suite, decision.point_id, decision.metric)
        told = [cause for point, cause in causes(decided) if point == decision.point_id]
        if decision.outcome in (Outcome.FAILED, Outcome.UNDECIDED):
            kind = "failure" if decision.outcome is Outcome.FAILED else "error"
            given = {"message": _text(decision.reason), "type": decision.outcome.value}
            ElementTree.SubElement(case, kind, given).text = _text("\n".join(told))
        output = ElementTree.SubElement(case, "system-out")
        output.text = _text(f"{values(decision)}\n{decision.reason}")
    if nothing:
        case = _case(suite, "gate", "any metric")
        given = {"message": _text(headline(decided)), "type": decided.outcome.value}
        ElementTree.SubElement(case, "error", given)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: ElementTree.Element, point_id: str, metric: str) -> ElementTree.Element:
    given = {"classname": _text(f"canvasbench.{point_id}"), "name": _text(metric)}
    return ElementTree.SubElement(suite, "testcase", given)


def _text(text: str) -> str:
    """Text without the characters that XML has no way to write."""
    return _NO_XML.sub("?", text)
