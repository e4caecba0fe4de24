"""Writes the tables of docs/durability.md from what the last runs found: `python -m tests.durability.table`."""

from __future__ import annotations

from pathlib import Path

from tests.durability.results import RESULTS_FILE, Results, Row

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "durability.md"
BEGIN, END = "<!-- rows: {} -->", "<!-- end of rows: {} -->"
TABLES = {
    "worker death": ("Side effect", "Worker killed", "Found", "s"),
    "others": ("What the test shows", "Case", "Found", "s"),
}


def tables(document: str, rows: list[Row]) -> str:
    """The document with its tables replaced. Raises ValueError when a marker is missing."""
    for name, head in TABLES.items():
        chosen = [row for row in rows if (row.group == "worker death") == (name == "worker death")]
        begin, end = BEGIN.format(name), END.format(name)
        before, _, rest = document.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"the document has no {begin} … {end}")
        lines = [_line(*head), _line(*("---" for _ in head)), *(_line(*_cells(row)) for row in chosen)]
        document = "\n".join([before + begin, *lines, end + after])
    return document


def _cells(row: Row) -> tuple[str, ...]:
    return row.what, row.moment, row.found, f"{row.seconds:.0f}"


def _line(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in cells) + " |"


def main() -> None:
    """Rewrites the document."""
    document = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(tables(document, Results(ROOT / RESULTS_FILE).rows()), encoding="utf-8")


if __name__ == "__main__":
    main()
