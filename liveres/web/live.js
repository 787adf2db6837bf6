// The page: it shows what the model knows, and sends what is asked of a circuit.

import { h, text, attr, show, arrange } from './dom.js';
import { Feed } from './feed.js';
import { Model } from './model.js';
import * as f from './format.js';
import * as circuits from './circuits.js';
import * as retries from './retries.js';

const $ = (id) => document.getElementById(id);
const page = 50; // rows of a table to begin with
const settle = 5000; // ms between reorderings by figures that change all the time
const speakEvery = 4000; // ms between announcements

const model = new Model();
const view = {
  model,
  paused: false,
  mode: 'connecting',
  filter: 'all',
  order: 'trouble',
  search: '',
  circuitLimit: page,
  retryLimit: page,
  openCircuits: new Set(),
  rows: new Map(), // of circuits, by id
  retryRows: new Map(), // by name
  ranks: [], // ids of the circuits in the order they are shown in
  ranked: 0,

  /** How many columns of a timeline are shown: as many as there is history for. */
  visibleColumns() {
    const { count, last } = model.frame.columns;
    return last <= count / 4 ? count / 4 : last <= count / 2 ? count / 2 : count;
  },
  opened(id, open) {
    if (open) this.openCircuits.add(id);
    else this.openCircuits.delete(id);
  },
  confirm,
};

// Rows are drawn while they can be seen.
const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    target.controller.visible = isIntersecting;
    if (isIntersecting && model.frame && !view.paused) target.controller.update(target.controller.circuit ?? target.controller.retry);
  }
}, { rootMargin: '200px' });

function watch(row) {
  row.element.controller = row;
  row.visible = true;
  seen.observe(row.element);
  return row;
}

// — The circuits that are to be shown.

const filters = {
  all: { name: 'All', has: () => true },
  open: { name: 'Open', has: (c) => c.state === 'open' },
  half: { name: 'Half-open', has: (c) => c.state === 'half-open' },
  closed: { name: 'Closed', has: (c) => c.state === 'closed' },
  forced: { name: 'Forced', has: (c) => c.forced },
};

function chosen() {
  const words = view.search.toLowerCase().split(/\s+/).filter(Boolean);
  return [...model.circuits.values()].filter((c) =>
    filters[view.filter].has(c) && words.every((w) => c.name.toLowerCase().includes(w)));
}

/** Puts circuits into the order that was asked for. Figures that change all the time
 * reorder them only now and then, and not while somebody is at a row. */
function rank(list, now) {
  const live = circuits.orders[view.order].live;
  const atRow = $('circuit-table').querySelector('tbody:hover, tbody:focus-within') !== null;
  const hold = live && (now - view.ranked < settle || atRow);
  if (!hold) {
    view.ranked = now;
    view.ranks = circuits.sorted(list, view.order).map((c) => c.id);
    return list;
  }
  const place = new Map(view.ranks.map((id, i) => [id, i]));
  return list.sort((a, b) => (place.get(a.id) ?? Infinity) - (place.get(b.id) ?? Infinity) || a.id - b.id);
}

function showCircuits(now) {
  const list = rank(chosen(), now);
  const shown = list.slice(0, view.circuitLimit);
  for (const c of list.slice(view.circuitLimit)) if (view.openCircuits.has(c.id)) shown.push(c);
  const rows = shown.map((c) => {
    let row = view.rows.get(c.id);
    if (!row) view.rows.set(c.id, (row = watch(new circuits.CircuitRow(c.id, view))));
    row.update(c);
    return row.element;
  });
  arrange($('circuit-table'), [...$('circuit-table').querySelectorAll(':scope > caption, :scope > thead'), ...rows]);
  for (const [id, row] of view.rows) {
    if (model.circuits.has(id) && row.element.isConnected) continue;
    seen.unobserve(row.element);
    view.rows.delete(id);
    if (!model.circuits.has(id)) view.openCircuits.delete(id);
  }
  show($('circuit-table'), shown.length > 0);
  show($('circuit-empty'), shown.length === 0);
  text($('circuit-empty'), model.circuits.size === 0
    ? 'No circuit breaker has been created yet.'
    : 'No circuit fits the search and the state you chose.');
  more($('circuit-more'), list.length, view.circuitLimit);
}

let nextId = 1;

function showRetries() {
  const list = [...model.retries.values()];
  const rows = list.slice(0, view.retryLimit).map((r) => {
    let row = view.retryRows.get(r.name);
    if (!row) view.retryRows.set(r.name, (row = watch(new retries.RetryRow(r.name, view, nextId++))));
    row.update(r);
    return row.element;
  });
  arrange($('retry-table'), [...$('retry-table').querySelectorAll(':scope > caption, :scope > thead'), ...rows]);
  for (const [name, row] of view.retryRows) {
    if (model.retries.has(name)) continue;
    seen.unobserve(row.element);
    view.retryRows.delete(name);
  }
  show($('retry-table'), list.length > 0);
  show($('retry-empty'), list.length === 0);
  text($('retry-empty'), 'Nothing has run with a retry yet.');
  more($('retry-more'), list.length, view.retryLimit);
  text($('retry-count'), String(list.length));
}

function more(button, size, limit) {
  show(button, size > limit);
  text(button, `Show all ${f.count(size)}`);
}

// — What is above the tables.

const chips = {};
for (const [key, { name }] of Object.entries(filters)) {
  const number = h('b', { class: 'chip-count', text: '0' });
  const button = h('button', { type: 'button', class: `chip ${key}`, 'aria-pressed': String(key === view.filter), onclick: () => choose(key) },
    number, h('span', { text: name }));
  chips[key] = { number, button };
  $('states').append(button);
}

function choose(key) {
  view.filter = key;
  for (const [k, { button }] of Object.entries(chips)) attr(button, 'aria-pressed', k === key);
  redraw();
}

const sums = {};
for (const [key, term] of Object.entries({ ran: 'Calls/s', failed: 'Failed/s', rejected: 'Rejected/s' })) {
  sums[key] = h('dd');
  $('sums').append(h('div', { class: key }, h('dt', { text: term }), sums[key]));
}

function showOverview() {
  const all = [...model.circuits.values()];
  for (const [key, { number, button }] of Object.entries(chips)) {
    const n = all.filter(filters[key].has).length;
    text(number, f.count(n));
    button.classList.toggle('none', n === 0);
  }
  const sum = (of) => all.reduce((n, c) => n + of(c.rates), 0);
  text(sums.ran, f.rate(sum((r) => r.success + r.failure + r.ignored)));
  text(sums.failed, f.rate(sum((r) => r.failure)));
  text(sums.rejected, f.rate(sum((r) => r.rejected)));
  const open = all.filter(filters.open.has).length;
  document.title = `${open ? `(${open}) ` : ''}Circuits – ${model.frame.process.program}`;
}

const modes = {
  connecting: 'Connecting',
  live: 'Live',
  polling: 'Every 2 s',
  disconnected: 'Disconnected, reconnecting',
};

function showConnection() {
  const mode = view.paused ? 'paused' : view.mode;
  attr($('connection'), 'data-mode', mode);
  let words = view.paused ? 'Paused' : modes[view.mode];
  if (model.lost > 0) words += `, ${f.count(model.lost)} ${model.lost === 1 ? 'update' : 'updates'} lost`;
  text($('connection-text'), words);
  attr($('connection'), 'title', {
    live: 'Updates arrive as they are made, one each second',
    polling: 'Updates do not arrive as they are made, as happens behind a proxy that holds them back; the page asks for them',
  }[mode] ?? null);
}

function showFacts() {
  const { process, columns, hidden, watchers } = model.frame;
  text($('program'), process.program);
  for (const th of timelineHeadings) text(th, `Last ${f.span(view.visibleColumns() * columns.seconds)}`);
  const notices = [];
  if (model.restarted) notices.push(`The process was restarted at ${f.at(model.restarted)}: what was before is gone.`);
  if (hidden.circuits) notices.push(`${f.count(hidden.circuits)} more circuits are not shown: there are more than this page takes.`);
  if (hidden.retries) notices.push(`Operations of more retries than this page takes are not shown.`);
  text($('notice'), notices.join(' '));
  show($('notice'), notices.length > 0);
  const words = [
    `${process.program} started ${f.at(Date.parse(process.started))}`,
    `a column of a timeline is ${f.took(columns.seconds)}`,
    `rates are of the last ${f.span(columns.rate_seconds)}`,
    `${f.count(watchers.now)} watching`,
  ];
  if (watchers.lost_updates) words.push(`${f.count(watchers.lost_updates)} updates lost by slow browsers`);
  text($('facts'), words.join(' · '));
}

// — The tables' headings, the search and the order.

const timelineHeadings = [];

function headings(row, columns) {
  for (const c of columns) {
    const th = h('th', { scope: 'col', role: 'columnheader', class: c.class, title: c.explain });
    if (c.order) th.append(h('button', { type: 'button', text: c.title, onclick: () => sortBy(c.order) }));
    else th.append(c.title);
    th.order = c.order;
    if (c.class === 'strip') timelineHeadings.push(th);
    row.append(th);
  }
}
headings($('circuit-head'), circuits.columns);
headings($('retry-head'), retries.columns);
for (const [key, { name }] of Object.entries(circuits.orders)) $('sort').append(h('option', { value: key, text: name }));

function sortBy(order) {
  view.order = order;
  view.ranked = 0;
  view.ranks = circuits.sorted(chosen(), order).map((c) => c.id);
  $('sort').value = order;
  for (const th of $('circuit-head').children) {
    if (th.order) attr(th, 'aria-sort', th.order !== order ? 'none' : order === 'name' ? 'ascending' : 'descending');
  }
  redraw();
}
$('sort').addEventListener('change', (e) => sortBy(e.target.value));
$('search').addEventListener('input', (e) => {
  view.search = e.target.value;
  redraw();
});
$('circuit-more').addEventListener('click', () => {
  view.circuitLimit = Infinity;
  redraw();
});
$('retry-more').addEventListener('click', () => {
  view.retryLimit = Infinity;
  redraw();
});
$('pause').addEventListener('click', () => {
  view.paused = !view.paused;
  text($('pause'), view.paused ? 'Resume' : 'Pause');
  if (!view.paused) redraw();
  showConnection();
});

// — Drawing.

let pending = 0;

/** Draws soon, once, however often it is called until then. */
function redraw() {
  pending ||= requestAnimationFrame(() => {
    pending = 0;
    if (!model.frame) return;
    const now = performance.now();
    showOverview();
    showCircuits(now);
    showRetries();
    showFacts();
  });
}

setInterval(() => {
  if (view.paused || !model.frame || view.mode === 'disconnected') return;
  const now = model.now();
  for (const row of view.rows.values()) if (row.visible) row.tick(now);
}, 1000);

// — Announcements: changes of state only, a few at a time.

let spoken = 0;
let toSay = new Map();

function announce() {
  for (const c of model.takeChanges()) toSay.set(c.id, c);
  if (toSay.size === 0 || spoken) return;
  const changed = [...toSay.values()];
  toSay = new Map();
  text($('announce'), changed.length > 3
    ? `${changed.length} circuits changed their state.`
    : changed.map((c) => `${f.cut(c.name, 60)} is ${f.states[c.letter].name.toLowerCase()}.`).join(' '));
  spoken = setTimeout(() => {
    spoken = 0;
    announce();
  }, speakEvery);
}

// — Controls.

const dialog = $('confirm');
let asked = null;

function confirm(action, circuit) {
  asked = { action, circuit: circuit.id };
  const { name, does } = circuits.actions[action];
  text($('confirm-title'), `${name}: ${f.cut(circuit.name, 80)}`);
  text($('confirm-text'), does);
  text($('confirm-yes'), name);
  attr($('confirm-yes'), 'class', `button primary${action === 'force_open' ? ' danger' : ''}`);
  show($('confirm-error'), false);
  dialog.showModal();
  $('confirm-no').focus();
}
$('confirm-no').addEventListener('click', () => dialog.close());
$('confirm-yes').addEventListener('click', async () => {
  const button = $('confirm-yes');
  button.disabled = true;
  let problem = null;
  try {
    const response = await fetch('control', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', 'X-Breakwater-Control': '1' },
      body: JSON.stringify(asked),
    });
    if (!response.ok) problem = `It was refused: ${(await response.json().catch(() => ({}))).error ?? response.status}.`;
  } catch {
    problem = 'The process could not be reached.';
  }
  button.disabled = false;
  if (problem === null) return dialog.close();
  text($('confirm-error'), problem);
  show($('confirm-error'), true);
});

// — Data.

sortBy(view.order);
new Feed({
  report(report) {
    const restarted = model.frame && model.frame.process.id !== report.process.id;
    if (restarted) {
      seen.disconnect();
      view.rows.clear();
      view.retryRows.clear();
      view.openCircuits.clear();
      toSay.clear();
    }
    model.replace(report);
    changed();
  },
  update(update) {
    const fits = model.apply(update);
    if (fits) changed();
    return fits;
  },
  lost(n) {
    model.lost += n;
    showConnection();
  },
  mode(mode) {
    if (mode === view.mode) return;
    view.mode = mode;
    showConnection();
  },
});

function changed() {
  if (view.paused) return;
  redraw();
  announce();
}
showConnection();
