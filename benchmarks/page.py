"""docs/benchmarks.md, where benchmarks keep their results between two marks."""

from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"


def save(name: str, text: str, title: str = "") -> None:
    """Put `text` between the marks of this name, in place of what stands there; at the end of the page, under the title if there
    is one, when there are no such marks yet."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    page = PAGE.read_text(encoding="utf-8")
    before, found, rest = page.partition(begin)
    if found:
        after = rest.partition(end)[2]
    else:
        before, after = f"{page.rstrip()}\n\n" + (f"## {title}\n\n" if title else ""), "\n"
    PAGE.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
