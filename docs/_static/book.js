// Tables sort by a click on a header: ascending, descending, as it was. A cell's number is the one that it
// begins with; what has none comes last.
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
// The theme's arrows in the contents have no words of their own.
for (const arrow of document.querySelectorAll('.bd-sidenav summary')) {
  const page = arrow.closest('li')?.querySelector('a')?.textContent.trim() ?? 'this page';
  arrow.setAttribute('aria-label', `Pages below ${page}`);
}
const start = document.querySelector('.sidebar-primary-items__start');
start?.setAttribute('role', 'region');
start?.setAttribute('aria-label', 'Site');
