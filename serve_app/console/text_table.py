"""Tables as plain text."""

from collections.abc import Iterable, Sequence


def cell(value: object) -> str:
    """One value as a table shows it."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def print_table(headers: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """Print an aligned table; numbers to the right."""
    if title:
        print(f"\n{title}")
    print(table_text(headers, rows), flush=True)


def table_text(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """An aligned table as text; numbers to the right."""
    raw = [list(row) for row in rows]
    text = [[cell(v) for v in row] for row in raw]
    widths = [max(len(h), *(len(row[i]) for row in text)) if text else len(h) for i, h in enumerate(headers)]
    lines = ["  ".join(h.ljust(w) for h, w in zip(headers, widths, strict=True)).rstrip()]
    lines.append("  ".join("-" * w for w in widths))
    for values, shown in zip(raw, text, strict=True):
        lines.append("  ".join(_pad(v, s, w) for v, s, w in zip(values, shown, widths, strict=True)).rstrip())
    return "\n".join(lines)


def _pad(value: object, shown: str, width: int) -> str:
    return shown.rjust(width) if isinstance(value, int | float) else shown.ljust(width)
