"""A report as JUnit XML, which CI servers show: gates that can fail, and measurements as properties of passing cases."""

from __future__ import annotations

from xml.etree import ElementTree as xml

from . import digest, figures
from .figures import printable
from .records import Gate, Report


def to_junit(report: Report) -> str:
    suites = xml.Element("testsuites", name="modelkit")
    _gates(suites, report)
    _measurements(suites, report)
    tests = len(suites.findall(".//testcase"))
    failures = len(suites.findall(".//failure"))
    skipped = len(suites.findall(".//skipped"))
    suites.attrib |= {"tests": str(tests), "failures": str(failures), "skipped": str(skipped), "time": f"{report.seconds:.3f}"}
    xml.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + xml.tostring(suites, encoding="unicode") + "\n"


def _gates(suites: xml.Element, report: Report) -> None:
    failed = sum(gate.passed is False for gate in report.gates)
    undecided = sum(gate.passed is None for gate in report.gates)
    counts = {"tests": str(len(report.gates)), "failures": str(failed), "skipped": str(undecided)}
    suite = xml.SubElement(suites, "testsuite", {"name": f"modelkit {printable(report.command)} gates", **counts})
    for gate in report.gates:
        name = printable(digest.gate_name(report, gate))
        _gate(xml.SubElement(suite, "testcase", classname="modelkit.gates", name=name), gate)
    if report.warnings:
        xml.SubElement(suite, "system-err").text = "\n".join(map(printable, report.warnings))


def _gate(case: xml.Element, gate: Gate) -> None:
    value = figures.exact(gate.value)
    if gate.passed is False:
        message = f"{printable(gate.gate)} failed: the value is {value}"
        xml.SubElement(case, "failure", message=message, type="gate").text = message
    elif gate.passed is None:
        xml.SubElement(case, "skipped", message=f"not decided: the measurement was too noisy (value {value})")


def _measurements(suites: xml.Element, report: Report) -> None:
    if not report.measurements:
        return
    counts = {"tests": str(len(report.measurements)), "failures": "0", "skipped": "0"}
    suite = xml.SubElement(suites, "testsuite", {"name": f"modelkit {printable(report.command)} measurements", **counts})
    for row in digest.rows(report):
        m = row.measurement
        name = f"{row.name}, {digest.setting(m)}, batch {m.batch_size}"
        seconds = f"{m.latency_ms.p50 / 1000:.6f}"
        case = xml.SubElement(suite, "testcase", classname="modelkit.measurements", name=printable(name), time=seconds)
        properties = xml.SubElement(case, "properties")
        times = {f"latency_ms.{key}": getattr(m.latency_ms, key) for key in ("p50", "p90", "p99")}
        counted = {"bytes": row.bytes, "peak_memory_bytes": m.peak_memory_bytes, "energy_j": m.energy_j}
        found = {metric: quality.value for metric, quality in m.quality.items()}
        values: dict[str, float | None] = {**times, "throughput_per_s": m.throughput_per_s.value, **counted, **found}
        for key, value in values.items():
            if value is not None:
                xml.SubElement(properties, "property", name=printable(key), value=repr(value))
