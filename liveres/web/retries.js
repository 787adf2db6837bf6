// The table of retries.

import { h, text, attr, show } from './dom.js';
import { Drawing } from './draw.js';
import { Facts } from './circuits.js';
import * as f from './format.js';

export const columns = [
  { title: 'Retry' },
  { title: 'Timeline', class: 'strip' },
  { title: 'Operations/s', class: 'number' },
  { title: 'First try', class: 'number', explain: 'Operations of the last minute whose first attempt succeeded' },
  { title: 'Saved', class: 'number', explain: 'Operations of the last minute that succeeded after a retry' },
  { title: 'Failed', class: 'number', explain: 'Operations of the last minute that did not succeed' },
  { title: 'Attempts', class: 'number', explain: 'Attempts for each operation in the last minute: 1 without any retry' },
  { title: 'Mean wait', class: 'number', explain: 'How long an operation of the last minute that waited did so, in all' },
];

export class RetryRow {
  constructor(name, view, id) {
    this.view = view;
    this.key = name;
    this.id = id;
    this.name = h('bdi', { class: 'name' });
    this.toggle = h('button', { type: 'button', class: 'toggle', 'aria-expanded': 'false', onclick: () => this.setOpen(!this.details) },
      h('span', { class: 'chevron', 'aria-hidden': 'true' }), this.name);
    this.drawing = new Drawing('retry', 36);
    this.figures = columns.slice(2).map((c) => {
      const value = h('span');
      return { value, cell: h('td', { class: 'number', role: 'cell' }, h('span', { class: 'cell-label', text: c.title }), value) };
    });
    this.row = h('tr', { class: 'row', role: 'row' },
      h('th', { scope: 'row', class: 'who', role: 'rowheader' }, this.toggle),
      h('td', { class: 'strip', role: 'cell' }, this.drawing.element),
      ...this.figures.map(({ cell }) => cell));
    this.element = h('tbody', { role: 'rowgroup' }, this.row);
    this.details = null;
    this.drawn = '';
  }

  setOpen(open) {
    if (open === Boolean(this.details)) return;
    attr(this.toggle, 'aria-expanded', open);
    if (open) {
      this.details = new RetryDetails(this.view);
      const id = `retry-${this.id}-details`;
      attr(this.toggle, 'aria-controls', id);
      this.detailsRow = h('tr', { class: 'details', id, role: 'row' }, h('td', { colspan: columns.length, role: 'cell' }, this.details.element));
      this.element.append(this.detailsRow);
    } else {
      this.detailsRow.remove();
      this.toggle.removeAttribute('aria-controls');
      this.details = null;
    }
    this.element.classList.toggle('opened', open);
    if (this.retry) this.update(this.retry);
  }

  update(retry) {
    this.retry = retry;
    text(this.name, f.cut(retry.name, 120) || '(no name)');
    attr(this.name, 'title', retry.name.length > 120 ? f.cut(retry.name, 1000) : null);
    const r = retry.recent;
    const share = (n) => (r ? f.percent(n / r.operations) : '–');
    const first = r?.results.success ?? 0;
    const saved = r?.results.success_after_retry ?? 0;
    const failed = (r?.operations ?? 0) - first - saved;
    [
      f.rate(retry.rate), share(first), share(saved), share(failed),
      r ? f.times(r.amplification) : '–',
      r?.waited ? f.took(r.delay_seconds / r.waited) : '–',
    ].forEach((value, i) => text(this.figures[i].value, value));
    this.row.classList.toggle('idle', !r);
    this.figures[3].value.classList.toggle('bad', failed > 0);
    this.figures[2].value.classList.toggle('good', saved > 0);
    const drawn = `${retry.timeline.version} ${this.view.visibleColumns()}`;
    if (this.visible !== false && this.drawn !== drawn) {
      this.drawing.columnSeconds = this.view.model.frame.columns.seconds;
      this.drawing.draw(retry.timeline, this.view.visibleColumns());
      this.drawn = drawn;
    }
    this.details?.update(retry);
  }

  tick() {}
}

class RetryDetails {
  constructor(view) {
    this.view = view;
    this.name = h('bdi');
    this.full = h('p', { class: 'full-name', hidden: true }, this.name);
    this.facts = new Facts();
    this.list = h('ol', { class: 'operations' });
    this.none = h('p', { class: 'quiet', text: 'No operation was retried yet.' });
    this.element = h('div', { class: 'panel' },
      this.full,
      h('div', { class: 'panel-main' }, h('h3', { text: 'Last retried operations' }), this.none, this.list),
      h('div', { class: 'panel-side' }, this.facts.element));
    this.shown = null;
  }

  update(retry) {
    show(this.full, retry.name.length > 60);
    text(this.name, retry.name);
    const t = retry.totals;
    const ended = Object.entries(t.results).filter(([, n]) => n > 0).map(([result, n]) => `${f.count(n)} ${f.results[result]}`);
    this.facts.set({
      'At most': retry.max_attempts ? `${f.count(retry.max_attempts)} attempts` : null,
      'Since start': `${f.count(t.operations)} operations, ${f.count(t.attempts)} attempts${t.operations ? ` (${f.times(t.amplification)})` : ''}`,
      'They ended': ended.length ? ended.join(', ') : 'none yet',
      'Waited': t.waited ? `${f.count(t.waited)} operations, ${f.took(t.delay_seconds / t.waited)} each on average` : 'none',
    });
    if (retry.last === this.shown) return;
    this.shown = retry.last;
    show(this.none, retry.last.length === 0);
    this.list.replaceChildren(...retry.last.map(waterfall));
  }
}

/** One operation: its attempts and waits in time, and in words. */
function waterfall(o) {
  const good = o.result === 'success_after_retry';
  const strip = h('div', { class: 'fall', 'aria-hidden': 'true' });
  const words = h('p', { class: 'steps' });
  const place = (kind, began, seconds) => {
    const bar = h('span', { class: `bar ${kind}` });
    bar.style.insetInlineStart = `${Math.min(100, (100 * began) / o.seconds)}%`;
    bar.style.inlineSize = `${Math.min(100, (100 * seconds) / o.seconds)}%`;
    strip.append(bar);
  };
  o.steps.forEach((step, i) => {
    place(step.outcome, step.began_seconds, step.seconds);
    const what = step.panicked ? 'panicked' : step.error_type ? step.error_type : step.outcome;
    words.append(h('span', { class: `step ${step.outcome}` },
      h('b', { text: `${step.attempt}` }), ` ${f.cut(what, 60)} `, h('span', { class: 'quiet', text: f.took(step.seconds) })));
    if (step.delay_seconds === undefined) return;
    const ended = step.began_seconds + step.seconds;
    const until = o.steps[i + 1]?.began_seconds ?? o.seconds;
    place('wait', ended, Math.max(0, until - ended));
    words.append(h('span', { class: 'step wait', text: `wait ${f.took(step.delay_seconds)}${step.retry_after ? ' as asked' : ''}` }));
  });
  if (o.attempts > o.steps.length) words.append(h('span', { class: 'step', text: `and ${o.attempts - o.steps.length} more` }));
  return h('li', {},
    h('div', { class: 'operation' },
      h('span', { class: `badge ${good ? 'good' : 'bad'}`, text: good ? `Saved by attempt ${o.attempts}` : sentence(f.results[o.result]) }),
      h('span', { class: 'quiet', text: `${f.at(Date.parse(o.time))}, ${f.took(o.seconds)} in all` }),
      o.trace_id ? h('span', { class: 'trace' }, h('span', { class: 'quiet', text: 'trace ' }), h('code', { text: o.trace_id })) : null),
    strip, words);
}

const sentence = (words) => words[0].toUpperCase() + words.slice(1);
