// The table of circuits.

import { h, s, text, attr, show } from './dom.js';
import { Drawing } from './draw.js';
import * as f from './format.js';

const failureRatio = (c) => (c.state === 'closed' ? c.window.failure_ratio : c.state === 'open' ? 1 : 0);
const ran = (c) => c.rates.success + c.rates.failure + c.rates.ignored;

/** The orders that a table of circuits can have. Live ones change all the time. */
export const orders = {
  trouble: { name: 'Trouble first', by: (a, b) => f.states[b.letter].severity - f.states[a.letter].severity },
  name: { name: 'Name', by: () => 0 },
  calls: { name: 'Calls per second', live: true, by: (a, b) => ran(b) - ran(a) },
  failures: { name: 'Failure ratio', live: true, by: (a, b) => failureRatio(b) - failureRatio(a) },
  latency: { name: 'Latency (p99)', live: true, by: (a, b) => (b.latency?.p99_seconds ?? -1) - (a.latency?.p99_seconds ?? -1) },
  rejected: { name: 'Rejected per second', live: true, by: (a, b) => b.rates.rejected - a.rates.rejected },
  change: { name: 'Last change', by: (a, b) => Date.parse(b.since) - Date.parse(a.since) },
};

const names = new Intl.Collator(undefined, { numeric: true, sensitivity: 'base' });

export function sorted(circuits, order) {
  return circuits.sort((a, b) => orders[order].by(a, b) || names.compare(a.name, b.name) || a.id - b.id);
}

export const columns = [
  { title: 'Circuit', order: 'name' },
  { title: 'State', order: 'trouble' },
  { title: 'Timeline', class: 'strip' },
  { title: 'Calls/s', order: 'calls', class: 'number' },
  { title: 'Failures', order: 'failures', class: 'ratio' },
  { title: 'p99', order: 'latency', class: 'number', explain: '99 of 100 calls of the last minute took at most this long, and half of them as long as is said below' },
  { title: 'Rejected/s', order: 'rejected', class: 'number' },
];

/** A pill with the state's name; its shape tells it apart without colour. */
export class Pill {
  constructor() {
    this.label = h('span');
    this.element = h('span', { class: 'pill' }, h('span', { class: 'shape', 'aria-hidden': 'true' }), this.label);
  }

  set(letter) {
    const state = f.states[letter];
    attr(this.element, 'class', `pill ${state.kind}${state.forced ? ' forced' : ''}`);
    text(this.label, state.name);
  }
}

/** A circuit's name, safe whatever it contains. */
function setName(el, circuit, most) {
  text(el, f.cut(circuit.name, most) || '(no name)');
  attr(el, 'title', circuit.name.length > most ? f.cut(circuit.name, 1000) : null);
}

/** A row, and the details below it while they are open. */
export class CircuitRow {
  constructor(id, view) {
    this.id = id;
    this.view = view;
    this.pill = new Pill();
    this.name = h('bdi', { class: 'name' });
    this.twin = h('span', { class: 'twin' });
    this.toggle = h('button', { type: 'button', class: 'toggle', 'aria-expanded': 'false', onclick: () => this.setOpen(!this.details) },
      h('span', { class: 'chevron', 'aria-hidden': 'true' }), this.name, this.twin);
    this.since = h('span', { class: 'second' });
    this.drawing = new Drawing('circuit', 36);
    this.calls = h('span');
    this.meter = new Meter();
    this.p50 = h('span', { class: 'second' });
    this.p99 = h('span');
    this.rejected = h('span');
    this.row = h('tr', { class: 'row', role: 'row' },
      h('th', { scope: 'row', class: 'who', role: 'rowheader' }, this.toggle),
      cell('state', this.pill.element, this.since),
      cell('strip', this.drawing.element),
      cell('number', labelled('Calls/s'), this.calls),
      cell('ratio', labelled('Failures'), this.meter.element),
      cell('number', labelled('p99'), this.p99, this.p50),
      cell('number', labelled('Rejected/s'), this.rejected));
    this.element = h('tbody', { role: 'rowgroup' }, this.row);
    this.details = null;
    this.drawn = '';
  }

  setOpen(open) {
    if (open === Boolean(this.details)) return;
    attr(this.toggle, 'aria-expanded', open);
    if (open) {
      this.details = new CircuitDetails(this.view);
      const id = `circuit-${this.id}-details`;
      attr(this.toggle, 'aria-controls', id);
      this.detailsRow = h('tr', { class: 'details', id, role: 'row' }, h('td', { colspan: columns.length, role: 'cell' }, this.details.element));
      this.element.append(this.detailsRow);
    } else {
      this.detailsRow.remove();
      this.toggle.removeAttribute('aria-controls');
      this.details = null;
    }
    this.element.classList.toggle('opened', open);
    this.view.opened(this.id, open);
    if (this.circuit) this.update(this.circuit, true);
  }

  update(circuit, force) {
    this.circuit = circuit;
    const { model } = this.view;
    setName(this.name, circuit, 120);
    text(this.twin, circuit.twin ? `#${circuit.id}` : '');
    this.pill.set(circuit.letter);
    attr(this.row, 'data-kind', f.states[circuit.letter].kind);
    this.tick(model.now());
    const r = circuit.rates;
    text(this.calls, f.rate(r.success + r.failure + r.ignored));
    this.row.classList.toggle('idle', r.success + r.failure + r.ignored + r.rejected === 0);
    this.meter.set(circuit);
    text(this.p50, circuit.latency ? `p50\u00a0${f.took(circuit.latency.p50_seconds)}` : '');
    text(this.p99, circuit.latency ? f.took(circuit.latency.p99_seconds) : '–');
    text(this.rejected, f.rate(r.rejected));
    const drawn = `${circuit.timeline.version} ${this.view.visibleColumns()}`;
    if (force || this.visible !== false) {
      if (force || this.drawn !== drawn) {
        this.drawing.columnSeconds = model.frame.columns.seconds;
        this.drawing.draw(circuit.timeline, this.view.visibleColumns());
        this.drawn = drawn;
      }
    }
    this.details?.update(circuit);
  }

  /** Brings up to date what changes as time goes by. */
  tick(now) {
    const c = this.circuit;
    if (!c) return;
    let words = f.span((now - Date.parse(c.since)) / 1000);
    if (c.open_until) words += `, probes in ${f.span((Date.parse(c.open_until) - now) / 1000 + 0.999)}`;
    text(this.since, words);
    this.details?.tick(now);
  }
}

function cell(name, ...children) {
  return h('td', { class: name, role: 'cell' }, ...children);
}

/** The heading of a cell where there is no row of headings: on a narrow screen. */
function labelled(title) {
  return h('span', { class: 'cell-label', text: title });
}

/** The failure ratio beside its threshold; while half-open the probes. */
class Meter {
  constructor() {
    this.value = h('span', { class: 'value' });
    this.bar = s('rect', { class: 'fill', x: 0, y: 3, height: 4, rx: 1 });
    this.mark = s('rect', { class: 'mark', y: 0, width: 1.5, height: 10 });
    this.chart = s('svg', { class: 'meter', viewBox: '0 0 60 10', 'aria-hidden': 'true', focusable: 'false' },
      s('rect', { class: 'track', x: 0, y: 3, width: 60, height: 4, rx: 1 }), this.bar, this.mark);
    this.note = h('span', { class: 'sr' });
    this.element = h('span', { class: 'measure' }, this.chart, this.value, this.note);
  }

  set(c) {
    const { window: w, thresholds: t } = c;
    const closed = c.state === 'closed';
    this.chart.classList.toggle('off', !closed);
    if (c.probes) {
      text(this.value, `${c.probes.passed} of ${t.probes} passed`);
      text(this.note, ' probes');
      return;
    }
    const volume = w.success + w.failure;
    if (!closed || volume === 0) {
      text(this.value, '–');
      text(this.note, closed ? ' no calls in the window' : ' not judged while open');
      this.chart.classList.toggle('off', !closed);
      attr(this.bar, 'width', 0);
    } else {
      text(this.value, f.percent(w.failure_ratio));
      text(this.note, ` of the window; the threshold is ${f.percent(t.failure_ratio)}`);
      attr(this.bar, 'width', (60 * w.failure_ratio).toFixed(1));
    }
    this.chart.classList.toggle('over', w.failure_ratio >= t.failure_ratio);
    this.chart.classList.toggle('warm', w.failure_ratio >= t.failure_ratio / 2 && w.failure_ratio < t.failure_ratio);
    attr(this.mark, 'x', Math.min(58.5, 60 * t.failure_ratio - 0.75).toFixed(2));
  }
}

/** Everything about one circuit. */
class CircuitDetails {
  constructor(view) {
    this.view = view;
    this.name = h('bdi');
    this.full = h('p', { class: 'full-name', hidden: true }, this.name);
    this.drawing = new Drawing('circuit', 120);
    this.scaleTop = h('span', { class: 'scale highest' });
    this.scaleBottom = h('span', { class: 'scale deepest' });
    this.axisStart = h('span');
    this.axisMiddle = h('span');
    this.axisEnd = h('span', { text: 'now' });
    this.readout = h('p', { class: 'readout' });
    const chart = h('div', { class: 'chart' }, this.drawing.element, this.scaleTop, this.scaleBottom);
    chart.addEventListener('pointermove', (e) => this.point(e));
    chart.addEventListener('pointerleave', () => this.rest());
    this.facts = new Facts();
    this.history = h('tbody');
    this.noHistory = h('p', { class: 'quiet', text: 'It has not changed its state.' });
    this.historyTable = h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Last transitions' },
      h('table', { class: 'plain' },
        h('thead', {}, h('tr', {}, ...['Time', 'Change', 'Why', 'After', 'Decided by', 'Trace'].map((title) => h('th', { scope: 'col', text: title })))),
        this.history));
    this.controls = h('div', { class: 'controls', role: 'group', 'aria-label': 'Control this circuit', hidden: true });
    this.buttons = {};
    for (const [action, { name }] of Object.entries(actions)) {
      this.buttons[action] = h('button', { type: 'button', class: 'button', text: name, onclick: () => view.confirm(action, this.circuit) });
      this.controls.append(this.buttons[action]);
    }
    this.element = h('div', { class: 'panel' },
      this.full,
      h('div', { class: 'panel-main' },
        chart,
        h('div', { class: 'axis', 'aria-hidden': 'true' }, this.axisStart, this.axisMiddle, this.axisEnd),
        this.readout,
        h('h3', { text: 'Last transitions' }), this.noHistory, this.historyTable),
      h('div', { class: 'panel-side' }, this.facts.element, this.controls));
    this.generation = null;
    this.rest();
  }

  update(c) {
    this.circuit = c;
    const { model } = this.view;
    const { columns, controls } = model.frame;
    show(this.full, c.name.length > 60);
    text(this.name, c.name);

    const most = this.view.visibleColumns();
    this.drawing.columnSeconds = columns.seconds;
    this.drawing.draw(c.timeline, most);
    text(this.scaleTop, this.drawing.highest ? `${f.rate(this.drawing.highest / columns.seconds)}/s` : '');
    text(this.scaleBottom, this.drawing.deepest ? `${f.rate(this.drawing.deepest / columns.seconds)}/s rejected` : '');
    const length = most * columns.seconds;
    text(this.axisStart, `${f.span(length)} ago`);
    text(this.axisMiddle, `${f.span(length / 2)} ago`);

    const newest = c.transitions[0]?.generation ?? 0;
    if (newest !== this.generation) {
      this.generation = newest;
      this.history.replaceChildren(...c.transitions.map(transitionRow));
      show(this.historyTable, newest > 0);
      show(this.noHistory, newest === 0);
    }

    show(this.controls, controls && c.control);
    show(this.buttons.clear_force, c.forced);
    show(this.buttons.force_open, c.letter !== 'O');
    show(this.buttons.force_closed, c.letter !== 'C');
    this.tick(model.now());
  }

  tick(now) {
    const c = this.circuit;
    if (!c) return;
    const { thresholds: t, window: w, totals, latency } = c;
    const since = Date.parse(c.since);
    const volume = w.success + w.failure;
    const slow = t.slow_ratio > 0;
    this.facts.set({
      'State': `${f.states[c.letter].name} for ${f.span((now - since) / 1000)}, since ${f.at(since)}`,
      'Probes': c.probes
        ? `${c.probes.passed} passed, ${c.probes.failed} failed, ${c.probes.in_flight} running; ${Math.ceil(t.probe_success_ratio * t.probes - 1e-9)} of ${t.probes} must pass`
        : c.open_until ? `in ${f.span((Date.parse(c.open_until) - now) / 1000 + 0.999)}` : null,
      'Window': c.state === 'closed'
        ? `${f.count(w.failure)} of ${f.count(volume)} calls failed${volume ? ` (${f.percent(w.failure_ratio)})` : ''}${c.forced ? '; not judged while forced' : w.judged ? '' : `; too few to judge`}`
        : null,
      'Slow': slow && c.state === 'closed' ? `${f.count(w.slow)} of ${f.count(volume)} calls${volume ? ` (${f.percent(w.slow_ratio)})` : ''} took ${f.took(t.slow_seconds)} or more` : null,
      'Opens at': `${f.percent(t.failure_ratio)} failures${slow ? ` or ${f.percent(t.slow_ratio)} slow calls` : ''}, of at least ${f.count(t.volume)} calls in ${f.took(t.window_seconds)}`,
      'Stays open': `${f.took(t.sleep_seconds)}, then up to ${f.count(t.probes)} probes`,
      'Latency': latency ? `p50\u00a0${f.took(latency.p50_seconds)}, p90\u00a0${f.took(latency.p90_seconds)}, p99\u00a0${f.took(latency.p99_seconds)}` : 'no calls in the last minute',
      'Since start': `${f.count(totals.success)} succeeded, ${f.count(totals.failure)} failed, ${f.count(totals.rejected)} rejected, ${f.count(totals.ignored)} ignored${slow ? `, ${f.count(totals.slow)} slow` : ''}`,
    });
  }

  /** Tells about the column under the pointer. */
  point(event) {
    const box = this.drawing.element.getBoundingClientRect();
    const most = this.view.visibleColumns();
    const i = Math.floor(((event.clientX - box.left) / box.width) * most);
    const c = this.circuit.timeline.columns.slice(-most);
    const column = c[i - (most - c.length)];
    if (!column) return this.rest();
    const { seconds } = this.view.model.frame.columns;
    const from = Date.parse(this.view.model.frame.process.started) + (column.n - 1) * seconds * 1000;
    text(this.readout, `${f.at(from)} and ${f.span(seconds)} on: ${f.states[column.letter].name.toLowerCase()}, ${f.count(column.success)} succeeded, ${f.count(column.failure)} failed, ${f.count(column.rejected)} rejected${column.ignored ? `, ${f.count(column.ignored)} ignored` : ''}`);
  }

  rest() {
    text(this.readout, 'Calls per second above the band of states, rejected calls below.');
  }
}

function transitionRow(t) {
  const why = f.reasons[t.reason] ?? t.reason;
  const decided = t.success + t.failure ? `${f.count(t.failure)} of ${f.count(t.success + t.failure)} failed${t.slow ? `, ${f.count(t.slow)} slow` : ''}` : '';
  const from = new Pill();
  const to = new Pill();
  from.set(f.letterOf(t.from, t.from_forced, t.shadow));
  to.set(f.letterOf(t.to, t.forced, t.shadow));
  return h('tr', {},
    h('td', { class: 'nowrap', text: f.at(Date.parse(t.time)) }),
    h('td', { class: 'nowrap' }, from.element, h('span', { class: 'arrow', 'aria-hidden': 'true', text: '→' }), h('span', { class: 'sr', text: ' to ' }), to.element),
    h('td', { text: why }),
    h('td', { class: 'nowrap', 'data-label': 'After', text: f.took(t.elapsed_seconds) }),
    h('td', { class: 'nowrap', 'data-label': 'Decided by', text: decided }),
    h('td', { 'data-label': 'Trace' }, t.trace_id ? h('code', { text: t.trace_id }) : null));
}

/** A list of terms and what they are; a null one is left out. */
export class Facts {
  constructor() {
    this.element = h('dl', { class: 'fact-list' });
    this.entries = new Map();
  }

  set(facts) {
    for (const [term, value] of Object.entries(facts)) {
      let entry = this.entries.get(term);
      if (!entry) {
        const dd = h('dd');
        entry = { dd, group: h('div', {}, h('dt', { text: term }), dd) };
        this.entries.set(term, entry);
        this.element.append(entry.group);
      }
      show(entry.group, value !== null);
      if (value !== null) text(entry.dd, value);
    }
  }
}

/** What can be done to a circuit, and what it means. */
export const actions = {
  force_open: { name: 'Force open', does: 'Every call is rejected from now on, until the force is lifted.' },
  force_closed: { name: 'Force closed', does: 'Every call is let through from now on, whatever comes of it, until the force is lifted.' },
  clear_force: { name: 'Lift the force', does: 'It stays in the state it shows, entered anew, and decides for itself again.' },
  reset: { name: 'Reset', does: 'It begins afresh: closed, with an empty window. A force is lifted; totals stay.' },
};
