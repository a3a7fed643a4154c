"""The report on paper: a PDF from the same sections as the page.

Why here: what is filed is printed.
Must not: be used while a key is open (typesetting starts a process).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from offline_processor.day_report.sections import Report
from offline_processor.exports.fonts import FontBook
from offline_processor.exports.typesetting import typeset


def pdf_of(report: Report, *, paper: str, fonts: Path | None, now: int) -> bytes:
    """The PDF, tagged for programs that read aloud."""
    data: dict[str, Any] = {
        "paper": {"letter": "us-letter"}.get(paper, paper),
        "fonts": FontBook(fonts).families(),
        "title": report.title,
        "subtitle": report.subtitle,
        "mark": report.mark,
        "first": report.first,
        "sections": [
            {
                "heading": section.heading,
                "text": section.text,
                "chart": section.chart,
                "columns": section.columns,
                "rows": section.rows,
                "words": section.words,
            }
            for section in report.sections
        ],
    }
    (pdf,) = typeset([(f"{__package__}:report.typ", data)], fonts, now=now, tagged=True)
    return pdf
