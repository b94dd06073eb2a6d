"""How the pages look and what their one script does; nothing of it comes from elsewhere.

Colours keep a contrast of at least 4.5 with what is behind them, in light and in dark.
"""

from __future__ import annotations

import html

from noiseutils.book.mathml import MATH_STYLE

STYLE = (
    r"""
:root { color-scheme: light dark;
  --ink: #1b1f24; --paper: #ffffff; --panel: #f4f6f8; --faint: #505a64; --line: #c9d1d9; --link: #0550ae;
  --agrees: #0b5d2f; --agrees-on: #e3f5e9; --differs: #8a1c12; --differs-on: #fdebe8; --open: #654100;
  --open-on: #fff4d6; --none: #4b535c; --none-on: #eef1f4; --other: #0b4a82; --other-on: #e4f0fb;
  --keyword: #8a1f6a; --text: #0b5d2f; --number: #0550ae; }
@media screen and (prefers-color-scheme: dark) { :root {
  --ink: #e6e9ec; --paper: #15181c; --panel: #1f242a; --faint: #adb5be; --line: #434c56; --link: #8cc2ff;
  --agrees: #8be0a8; --agrees-on: #10331f; --differs: #ffb1a8; --differs-on: #46170f; --open: #f5d67a;
  --open-on: #3a2c00; --none: #c0c7ce; --none-on: #2a3037; --other: #a5d1ff; --other-on: #10304f;
  --keyword: #f0a3d8; --text: #8be0a8; --number: #8cc2ff; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 1rem/1.55 system-ui, sans-serif; }
body > header, main, body > footer { max-width: 72rem; margin: 0 auto; padding: 0.75rem 1rem; }
main { overflow-wrap: break-word; }
main:focus { outline: none; }
h1 { font-size: clamp(1.5rem, 4vw, 2.1rem); line-height: 1.2; margin: 0.6em 0 0.5em; }
h2 {
  font-size: 1.4rem; line-height: 1.25; margin: 2em 0 0.5em; padding-top: 0.4em;
  border-top: 1px solid var(--line); }
h3 { font-size: 1.12rem; margin: 1.5em 0 0.4em; }
p, ul, ol, blockquote { max-width: 80ch; }
a { color: var(--link); }
a:focus-visible, button:focus-visible, summary:focus-visible, [tabindex]:focus-visible {
  outline: 3px solid var(--link); outline-offset: 2px; }
.skip { position: absolute; left: -999rem; }
.skip:focus { left: 1rem; top: 0.5rem; padding: 0.4rem 0.8rem; background: var(--paper); z-index: 3; }
.faint, figcaption, caption, body > footer { color: var(--faint); }
code, pre { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: 0.88em; }
:not(pre) > code {
  background: var(--panel); padding: 0.1em 0.3em; border-radius: 3px; overflow-wrap: anywhere; }
pre {
  background: var(--panel); padding: 0.7rem 0.9rem; border-radius: 6px; overflow-x: auto; margin: 0.6rem 0; }
details { margin: 0.6rem 0; }
summary { cursor: pointer; font-weight: 600; }
blockquote { margin: 1em 0; padding-left: 1em; border-left: 4px solid var(--line); }
img { max-width: 100%; height: auto; background: #fff; }
figure { margin: 1.2rem 0; }
a.figure { display: inline-block; max-width: 100%; background: #fff; line-height: 0; border-radius: 4px; }
.scroll {
  overflow-x: auto; max-width: 100%; width: fit-content; border: 1px solid var(--line); border-radius: 6px; }
table {
  border-collapse: separate; border-spacing: 0; font-size: 0.92rem; font-variant-numeric: tabular-nums; }
th, td {
  padding: 0.35rem 0.7rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
tbody tr:last-child > * { border-bottom: 0; }
thead th { background: var(--panel); vertical-align: bottom; }
tbody th { font-weight: inherit; }
.number { text-align: right; white-space: nowrap; }
.scroll :is(th, td):first-child { position: sticky; left: 0; background: var(--paper); z-index: 1; }
.scroll thead th:first-child { background: var(--panel); }
th button { all: unset; cursor: pointer; font-weight: 600; }
th button::after { content: "\2195"; margin-left: 0.35em; color: var(--faint); }
th[aria-sort=ascending] button::after { content: "\25B2"; color: var(--ink); }
th[aria-sort=descending] button::after { content: "\25BC"; color: var(--ink); }
figcaption { margin-bottom: 0.4rem; max-width: 80ch; }
.verdict {
  display: inline-block; padding: 0.05em 0.5em; border: 1.5px solid; border-radius: 4px; font-weight: 600; }
.agrees { color: var(--agrees); background: var(--agrees-on); }
.differs { color: var(--differs); background: var(--differs-on); border-width: 2.5px; }
.open { color: var(--open); background: var(--open-on); border-style: dashed; }
.none { color: var(--none); background: var(--none-on); border-style: dotted; }
.other { color: var(--other); background: var(--other-on); border-style: double; border-width: 3px; }
.missing { columns: 30rem; column-gap: 2.5rem; max-width: none; }
.missing li { break-inside: avoid; margin-bottom: 0.6rem; }
td .verdict { white-space: nowrap; overflow-wrap: normal; }
ul.verdicts {
  list-style: none; display: flex; flex-wrap: wrap; gap: 0.4rem; margin: 0.3rem 0 0.8rem; padding: 0; }
.facts p { margin: 0.5rem 0 0; }
.facts, article, .problems {
  border: 1px solid var(--line); border-radius: 8px; padding: 0.8rem 1rem; margin: 1rem 0; }
.facts { background: var(--panel); }
.problems { border: 2.5px solid var(--differs); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.2rem 1rem; margin: 0.6rem 0; }
dt { color: var(--faint); }
dd { margin: 0; overflow-wrap: anywhere; }
.cards {
  display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 31rem), 1fr)); }
article { margin: 0; }
article h3 { margin: 0.2rem 0 0.4rem; }
article > a.figure { display: block; }
article > a.figure img { width: 100%; max-height: 13rem; object-fit: contain; padding: 0.3rem; }
.links { display: flex; flex-wrap: wrap; gap: 0.3rem 1.2rem; list-style: none; padding: 0; }
/* a notebook's cells, in nbconvert's classes */
.jp-InputPrompt, .jp-OutputPrompt, .jp-Collapser, .anchor-link { display: none; }
.jp-OutputArea-output pre { background: none; padding: 0.2rem 0; }
[data-mime-type="application/vnd.jupyter.stderr"] pre { background: var(--panel); padding: 0.5rem 0.9rem; }
.jp-InputArea-editor pre { border-left: 4px solid var(--line); }
[role=alert] { color: var(--differs) !important; } /* a view's, whose own red is for a white page */
.highlight :is(.k, .kn, .kc, .kd, .kr, .kt, .ow) { color: var(--keyword); }
.highlight :is(.s, .s1, .s2, .sa, .sd, .se, .si, .sx) { color: var(--text); }
.highlight :is(.c, .c1, .cm, .ch) { color: var(--faint); }
.highlight :is(.m, .mi, .mf, .mh, .mb, .mo) { color: var(--number); }
@media (max-width: 40rem) {
  body { font-size: 0.95rem; }
  th, td { padding: 0.3rem 0.5rem; }
  .scroll :is(th, td):first-child { max-width: 42vw; white-space: normal; overflow-wrap: break-word; }
  .wordy { min-width: 13rem; }
  .wordy:first-child { min-width: 9.5rem; }
}
@media print {
  .skip, nav { display: none; }
  th button::after { content: none; }
  .scroll { overflow: visible; border: 0; }
  figure, article, tr { break-inside: avoid; }
  pre { white-space: pre-wrap; }
  h2, h3 { break-after: avoid; }
  a { color: inherit; }
}
"""
    + MATH_STYLE
)

# Ascending, descending, as it was. A cell's number is the one that it begins with; what has none comes last.
SCRIPT = r"""
const number = text => {
  const found = text.replace(/[\u2212\u2012]/g, '-').replace(/,(?=\d{3})/g, '')
    .match(/^[^\w.+-]*([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)/i);
  return found ? parseFloat(found[1]) : NaN;
};
const blank = text => text === '' || text === '\u2013' || text === 'nan';
for (const table of document.querySelectorAll('table.sortable')) {
  const body = table.tBodies[0], original = [...body.rows];
  if (original.length < 2) continue;
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if (!head.textContent.trim()) return;
    const button = document.createElement('button');
    button.type = 'button';
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute('aria-sort', 'none');
    button.addEventListener('click', () => {
      const next = {none: 'ascending', ascending: 'descending', descending: 'none'}[head.ariaSort];
      heads.forEach(other => other.hasAttribute('aria-sort') && other.setAttribute('aria-sort', 'none'));
      head.setAttribute('aria-sort', next);
      if (next === 'none') return body.append(...original);
      const texts = new Map(original.map(row => [row, row.cells[column]?.textContent.trim() ?? '']));
      const told = original.filter(row => !blank(texts.get(row)));
      const numeric = told.every(row => !isNaN(number(texts.get(row))));
      const sign = next === 'ascending' ? 1 : -1;
      told.sort((a, b) => sign * (numeric ? number(texts.get(a)) - number(texts.get(b))
        : texts.get(a).localeCompare(texts.get(b), 'en', {numeric: true})));
      body.append(...told, ...original.filter(row => blank(texts.get(row))));
    });
  });
}
"""


def frame(title: str, body: str, up: str = "", footer: str = "") -> str:
    """A whole page.   body: HTML inside main.   up: the way back to the index, such as `../../`."""
    back = f'<header><nav aria-label="Report"><a href="{up}index.html">All results</a></nav></header>'
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<a class="skip" href="#content">Skip to the content</a>
{back if up else ""}
<main id="content" tabindex="-1">
{body}
</main>
<footer>{footer}</footer>
<script>{SCRIPT}</script>
</body>
</html>
"""
