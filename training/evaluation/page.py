"""The report of an evaluation: one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from string import Template

from training.evaluation.plots import Picture
from training.evaluation.tables import Table

_PAGE = Template(
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>$title</title>
<style>
:root { color-scheme: light; --ink: #15202b; --soft: #4d5b68; --line: #d8dee4; --wash: #f4f6f8; --accent: #0b5560; }
*, *::before, *::after { box-sizing: border-box; }
body { margin: 0; background: #fff; color: var(--ink); font: 400 1rem/1.5 -apple-system, "Segoe UI", Roboto,
  "Noto Sans", "Liberation Sans", sans-serif; font-variant-numeric: tabular-nums lining-nums; }
main, header { max-width: 76rem; margin: 0 auto; padding: 0 2rem; }
header { padding-top: 1.6rem; }
h1 { font-size: 2rem; line-height: 1.15; letter-spacing: -.02em; margin: 0 0 .4rem; }
h2 { font-size: 1.3rem; letter-spacing: -.01em; margin: 0 0 .6rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
section { border-top: 1px solid var(--line); padding: 1.7rem 0; }
p { margin: 0 0 .8rem; color: var(--soft); max-width: 60rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .86rem; }
th, td { text-align: left; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; }
td { white-space: nowrap; } td:last-child { white-space: normal; min-width: 11rem; }
figure { margin: 0 0 1.6rem; } img { max-width: 100%; height: auto; }
figcaption { color: var(--soft); font-size: .88rem; }
code { font: .86em/1.4 ui-monospace, Menlo, Consolas, "Liberation Mono", monospace; overflow-wrap: anywhere; }
nav a { color: var(--accent); margin-right: 1rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem; margin: 1rem 0; font-size: .9rem; }
dt { color: var(--soft); } dd { margin: 0; }
@media print { section { break-inside: avoid-page; } nav { display: none; } }
@media (max-width: 40rem) { main, header { padding: 0 1rem; } dl { grid-template-columns: 1fr; } }
</style>
</head>
<body>
<header>
<h1>$title</h1>
<p>For Research Use Only. Not for use in diagnostic procedures.</p>
<dl>$facts</dl>
<nav>$links</nav>
</header>
<main>
$sections
</main>
</body>
</html>
"""
)


def _cell(text: str) -> str:
    if text.startswith("**") and text.endswith("**") and len(text) > 4:
        return f"<strong>{escape(text[2:-2])}</strong>"
    return escape(text)


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.header)
    body = "".join("<tr>" + "".join(f"<td>{_cell(text)}</td>" for text in row) + "</tr>\n" for row in table.rows)
    note = f"<p>{escape(table.note)}</p>" if table.note else ""
    return f'{note}<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>'


def render(
    title: str, facts: Mapping[str, str], tables: Sequence[Table], pictures: Mapping[str, Sequence[Picture]]
) -> str:
    """Write the page. `facts` say how it was made; `pictures` are those of each system, by its name."""
    sections, links = [], []
    for number, table in enumerate(tables):
        links.append(f'<a href="#t{number}">{escape(table.title)}</a>')
        sections.append(f'<section id="t{number}"><h2>{escape(table.title)}</h2>{_table(table)}</section>')
    for number, (name, found) in enumerate(pictures.items()):
        links.append(f'<a href="#p{number}">Plots: {escape(name)}</a>')
        figures = "".join(
            f'<figure><img alt="{escape(item.caption)}" src="{item.link}"><figcaption>{escape(item.caption)}'
            "</figcaption></figure>"
            for item in found
        )
        sections.append(f'<section id="p{number}"><h2>Plots: {escape(name)}</h2>{figures}</section>')
    return _PAGE.substitute(
        title=escape(title),
        facts="".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in facts.items()),
        links=" ".join(links),
        sections="\n".join(sections),
    )
