"""The report as one HTML page: everything in it, no script, no other resource, and no way to load any.

Why here: it is opened years later, on a machine that has nothing but a browser.
Must not: put in a text unescaped.
"""

from __future__ import annotations

from html import escape
from importlib.resources import files

from offline_processor.day_report.sections import Report, Section


def html_of(report: Report) -> str:
    """The page."""
    style = files(__package__).joinpath("report.css").read_text("utf-8")
    mark = f'<p class="mark">{escape(report.mark)}</p>' if report.mark else ""
    first = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in report.first
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(report.title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(report.title)}</h1>\n<p>{escape(report.subtitle)}</p>\n{mark}\n"
        f'<dl class="first">{first}</dl>\n'
        + "".join(map(_section, report.sections))
        + "</main>\n</body>\n</html>\n"
    )


def _section(section: Section) -> str:
    text = f"<p>{escape(section.text)}</p>\n" if section.text else ""
    chart = f"<figure>{section.chart}</figure>\n" if section.chart else ""
    return f"<section>\n<h2>{escape(section.heading)}</h2>\n{text}{chart}{_table(section)}</section>\n"


def _table(section: Section) -> str:
    if not section.columns:
        return ""
    head = "".join(_cell("th", section, place, name) for place, name in enumerate(section.columns))
    rows = "".join(
        "<tr>" + "".join(_cell("td", section, place, cell) for place, cell in enumerate(row)) + "</tr>\n"
        for row in section.rows
    )
    return f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n'


def _cell(tag: str, section: Section, place: int, text: str) -> str:
    scope = ' scope="col"' if tag == "th" else ""
    kind = "" if place < section.words else ' class="figure"'
    return f"<{tag}{scope}{kind}>{escape(text)}</{tag}>"
