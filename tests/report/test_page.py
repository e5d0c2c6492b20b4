"""The HTML report in a real browser: nothing in its console, charts that drew, readable in light and dark."""

import os

import pytest

from modelkit.report.html import to_html
from tests.report.browser import Browser, find
from tests.report.examples import EXAMPLES

PROGRAM = find()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs Chromium: `apt-get install chromium`")

# For every chart: its size, how many shapes have one too, and whether all of its text lies within the card around it.
CHARTS = """
[...document.querySelectorAll('.charts svg')].map(svg => {
  const box = svg.getBoundingClientRect(), card = svg.closest('.card').getBoundingClientRect();
  const shapes = [...svg.querySelectorAll('rect, path, circle')].map(s => s.getBoundingClientRect());
  const texts = [...svg.querySelectorAll('text')].map(t => t.getBoundingClientRect());
  return {
    label: svg.getAttribute('aria-label'), width: box.width, height: box.height,
    drawn: shapes.filter(s => s.width > 1 || s.height > 1).length,
    outside: shapes.concat(texts).filter(t => t.left < card.left - 1 || t.right > card.right + 1).length,
  };
})
"""
# The contrast of every text with what is behind it (WCAG 2), by its colours as the browser resolved them.
CONTRAST = """
(() => {
  const parse = c => c.match(/[\\d.]+/g).map(Number);
  const light = c => {
    const [r, g, b] = parse(c).slice(0, 3).map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const behind = e => {
    for (; e; e = e.parentElement) {
      const c = getComputedStyle(e).backgroundColor;
      if (!c.endsWith(', 0)')) return c;
    }
    return 'rgb(255, 255, 255)';
  };
  return [...document.querySelectorAll('p, h1, h2, h3, td, th, span, b, li, summary, svg text')]
    .filter(e => e.textContent.trim()).map(e => {
      const style = getComputedStyle(e), ink = e.closest('svg') ? style.fill : style.color;
      const [a, b] = [light(ink), light(behind(e))].sort((x, y) => y - x);
      return [(a + .05) / (b + .05), e.textContent.slice(0, 40)];
    }).filter(([ratio]) => ratio < 4.5);
})()
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    assert PROGRAM
    with Browser(PROGRAM, tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.mark.parametrize("name", ["demo", "bench", "compare", "profiled", "hostile"])
@pytest.mark.parametrize("dark", [False, True])
def test_reports_in_a_browser(browser, tmp_path, name, dark):
    path = tmp_path / "report.html"
    path.write_text(to_html(EXAMPLES[name]()), encoding="utf-8")
    assert path.stat().st_size < 3_000_000
    browser.open(path, dark)
    charts = browser.evaluate(CHARTS)
    assert charts
    for chart in charts:
        assert chart["width"] > 200 and chart["height"] > 40, chart
        assert chart["drawn"] >= 1 and not chart["outside"], chart
    background = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(19, 21, 25)" if dark else "rgb(247, 247, 245)")
    assert browser.evaluate(CONTRAST) == []
    assert browser.messages == []
    if folder := os.environ.get("SCREENSHOTS"):
        browser.screenshot(tmp_path.__class__(folder) / f"{name}-{'dark' if dark else 'light'}.png")


def test_it_fits_a_phone(browser, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(to_html(EXAMPLES["compare"]()), encoding="utf-8")
    browser.open(path, dark=False, width=390)
    assert browser.evaluate("document.documentElement.scrollWidth") <= 390
