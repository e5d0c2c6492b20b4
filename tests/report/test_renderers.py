"""The pages and tables for people: what they say, what they escape, how they are written."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from rich.console import Console

from modelkit.core.errors import ModelkitError
from modelkit.report import digest, figures, read_report, write_report
from modelkit.report.html import to_html
from modelkit.report.junit import to_junit
from modelkit.report.markdown import to_markdown
from modelkit.report.records import Measurement
from modelkit.report.tables import print_report
from tests.report.examples import EXAMPLES, bench, compare, demo, doctor, hostile, layer_record, pass_record, report

VOID = {"meta", "i"} - {"i"}
TAGS = set("html head meta title style body main header h1 h2 h3 p b i span div table thead tbody tr th td svg text rect".split())
TAGS |= set("path circle details summary ul li footer".split())


class Page(HTMLParser):
    """Collects the tags and attributes of a page, and checks that they nest."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.text = ""
        self.feed(content)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("name", EXAMPLES)
def test_html_is_one_whole_file_with_nothing_from_elsewhere(name):
    content = to_html(EXAMPLES[name]())
    page = Page(content)
    assert page.tags <= TAGS
    assert not {a for a in page.attributes if a.startswith("on") or a in ("src", "href")}
    assert "http" not in content and "url(" not in content and "@import" not in content
    assert len(content) < 100_000


def test_html_escapes_hostile_names():
    content = to_html(hostile())
    assert "<img" not in content and "<script" not in content and "</script" not in content
    assert "\x1b" not in content and "\u202e" not in content
    assert "onerror=alert(1)" in Page(content).text


def test_html_of_many_layers_stays_small():
    content = to_html(demo(5000))
    assert len(content.encode()) < 3_000_000
    assert "first 3000 of 5000 layers" in content


def test_html_shows_light_and_dark_and_the_charts_that_there_is_data_for():
    content = to_html(demo())
    assert "prefers-color-scheme:dark" in content and 'name="viewport"' in content
    for title in (
        "Latency, median",
        "Size of",
        "Accuracy",
        "Peak memory",
        "single runs",
        "area is size",
        "Error of each",
        "before and",
    ):
        assert f"<h3>{title}" in content or title in content
    assert content.count("<svg") == 8
    assert to_html(doctor()).count("<svg") == 0


def test_extreme_values_are_drawn():
    flat = demo()
    for m in flat.measurements:
        m.latency_ms.samples = [1.0, 1.0]
        m.latency_ms.ci95 = None
        m.quality["accuracy"].value = 0.0
        m.quality["accuracy"].ci95 = None
    flat.passes[0].layers = [layer_record(i) for i in range(3)]
    for layer in flat.passes[0].layers:
        layer.error, layer.bytes_before, layer.bytes_after = 0.0, 0, 0
    for render in (to_html, to_markdown, to_junit):
        assert "nan" not in render(flat)
    print_report(flat, console=Console(file=open("/dev/null", "w"), width=80))


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("verbose", [False, True])
def test_tables_fit_80_columns(name, verbose):
    console = Console(width=80, record=True, file=open("/dev/null", "w"), highlight=False)
    print_report(EXAMPLES[name](), verbose=verbose, console=console)
    text = console.export_text()
    assert "\x1b" not in text and "\u202e" not in text
    longest = max((line for line in text.splitlines() if not line.startswith("→")), key=len, default="")
    assert len(longest.rstrip()) <= 80, longest


def _printed(found, **options) -> str:
    console = Console(width=100, record=True, file=open("/dev/null", "w"), highlight=False)
    print_report(found, console=console, **options)
    return console.export_text()


def test_long_layer_lists_are_summarised_with_the_reasons():
    short = _printed(demo(60))
    assert "57 of 60 layers changed" in short and "2 layers left" in short and "--ignore" in short
    assert short.count("/features") < 6
    assert _printed(demo(60), verbose=True).count("/features") == 60


def test_tables_say_what_was_measured():
    text = _printed(demo())
    assert "2.13×" in text and "0.26×" in text and "91.2 ±0.8 %" in text and "✓ passed" in text
    assert "≈ 1.00×" in _printed(bench())
    verdicts = _printed(compare())
    assert "better" in verdicts and "✗ failed" in verdicts and "? not decided" in verdicts


def test_markdown_tables_have_one_width_and_no_markup_from_names():
    text = to_markdown(hostile())
    assert "<img" not in text and "\x1b" not in text and "`" not in text.replace("\\`", "")
    for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1
    assert "<details>" in to_markdown(demo(100)) and "<details>" not in to_markdown(demo())


@pytest.mark.parametrize("name", EXAMPLES)
def test_junit_is_xml_with_the_counts(name):
    found = EXAMPLES[name]()
    suites = ElementTree.fromstring(to_junit(found).encode())
    cases = suites.findall(".//testcase")
    assert len(cases) == len(found.gates) + len(found.measurements) == int(suites.get("tests"))
    assert len(suites.findall(".//failure")) == int(suites.get("failures")) == sum(g.passed is False for g in found.gates)
    assert len(suites.findall(".//skipped")) == int(suites.get("skipped")) == sum(g.passed is None for g in found.gates)


@pytest.mark.parametrize("extension", ["json", "md", "html", "xml", "HTML"])
def test_written_whole_or_not_at_all(tmp_path, monkeypatch, extension):
    path = tmp_path / f"report.{extension}"
    write_report(demo(), path)
    before = path.read_text(encoding="utf-8")
    expected = sorted([path, path.with_suffix(".smaller-is-better.json")] if extension == "json" else [path])
    assert before and sorted(tmp_path.iterdir()) == expected and path.stat().st_mode & 0o077 == 0o044
    monkeypatch.setattr("os.replace", _full_disk)
    with pytest.raises(ModelkitError, match="No space left"):
        write_report(bench(), path)
    assert path.read_text(encoding="utf-8") == before and sorted(tmp_path.iterdir()) == expected


def _full_disk(*_):
    raise OSError(28, "No space left on device")


def test_json_files_are_read_back(tmp_path):
    write_report(demo(), tmp_path / "r.json")
    assert read_report((tmp_path / "r.json").read_bytes(), "r.json") == demo()


@pytest.mark.parametrize("name", ["report.pdf", "report", "folder.json", "missing/report.json"])
def test_bad_places(tmp_path, name):
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(ModelkitError):
        write_report(demo(), tmp_path / name)


def test_ratios_are_against_the_first_model_at_the_same_batch_size():
    rows = digest.rows(bench())
    assert [r.speedup is None for r in rows] == [True, False, False] * 2
    assert rows[4].speedup == pytest.approx(rows[3].measurement.latency_ms.p50 / rows[4].measurement.latency_ms.p50)
    assert rows[1].speedup_is_clear and not rows[2].speedup_is_clear
    assert digest.short_names(bench())["int8/model.onnx"] == "int8/model.onnx"
    assert digest.short_names(demo())["models/resnet.onnx"] == "resnet.onnx"


def test_headline():
    tiles = {t.label: t for t in digest.headline(demo())}
    assert tiles["Speed-up"].good and tiles["Size"].value == "0.26×"
    assert tiles["Accuracy"].value == "−0.20 pt" and tiles["Accuracy"].good is None
    assert tiles["Layers changed"].value == "18 of 21"
    only = report("quantize", inputs=demo().inputs, output=demo().output, passes=[pass_record()])
    assert [t.label for t in digest.headline(only)] == ["Size", "Layers changed"]
    worse = {t.label: t for t in digest.headline(compare())}
    assert worse["Accuracy"].good is False and worse["Speed-up"].good is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (None, "–"),
        (0.012345, "0.0123"),
        (4.2999, "4.30"),
        (123.4, "123"),
        (99_999.6, "100,000"),
        (3e-7, "3.00e-07"),
        (-2.5, "-2.50"),
    ],
)
def test_significant_figures(value, text):
    assert figures.significant(value) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (999_999, "1.00 MB"), (3_412_000, "3.41 MB"), (7e10, "70.0 GB")],
)
def test_sizes(count, text):
    assert figures.size(int(count)) == text


def test_measurements_refuse_what_is_not_a_number():
    document = demo().measurements[0].model_dump()
    document["latency_ms"]["p50"] = float("nan")
    with pytest.raises(ValueError, match="finite"):
        Measurement.model_validate(document)


def test_a_measured_speed_is_told_everywhere():
    known = pass_record(2).model_copy(update={"speedup": 2.034})
    found, silent = (report("prune", passes=[record.model_dump(by_alias=True)]) for record in (known, pass_record(2)))
    for render in (to_html, to_markdown, _printed):
        assert "easured 2.03× as fast as the original" in render(found)
        assert "as fast as" not in render(silent)
