// Timelines. What ran stands on the band of states, failures lowest; what was
// rejected hangs below it. The band tells states by its height as well as by colour.

import { s, attr } from './dom.js';
import { states, span, percent } from './format.js';

const bands = { closed: 2, half: 4, open: 6 };

const layers = {
  circuit: { above: [['failed', ['failure']], ['ran', ['success', 'ignored']]], below: [['turned', ['rejected']]] },
  retry: { above: [['failed', ['failure']], ['saved', ['success_after_retry']], ['ran', ['success', 'ignored']]], below: [['turned', ['rejected']]] },
};

/** Timeline draws the history of a circuit or a retry into an SVG element. */
export class Drawing {
  constructor(kind, height) {
    this.kind = kind;
    this.layers = layers[kind];
    this.height = height;
    this.band = kind === 'circuit' ? 8 : 1;
    this.up = Math.round((height - this.band) * (kind === 'circuit' ? 0.68 : 0.8));
    this.down = height - this.band - this.up;
    this.element = s('svg', { class: `timeline ${kind}`, role: 'img', preserveAspectRatio: 'none', focusable: 'false' });
    this.paths = {};
    this.bandGroup = s('g');
    this.element.append(s('path', { class: 'ground', d: '' }), this.bandGroup);
    for (const [name] of [...this.layers.above, ...this.layers.below]) {
      this.element.append((this.paths[name] = s('path', { class: name })));
    }
  }

  /** Draws the last `most` columns of a timeline. */
  draw(timeline, most) {
    const columns = timeline.columns.slice(-most);
    const width = most * 4;
    const start = width - columns.length * 4;
    attr(this.element, 'viewBox', `0 0 ${width} ${this.height}`);
    const sum = (column, names) => names.reduce((n, name) => n + column[name], 0);
    const total = (column, side) => side.reduce((n, [, names]) => n + sum(column, names), 0);
    this.highest = Math.max(0, ...columns.map((c) => total(c, this.layers.above)));
    this.deepest = Math.max(0, ...columns.map((c) => total(c, this.layers.below)));

    const d = {};
    for (const name of Object.keys(this.paths)) d[name] = '';
    columns.forEach((column, i) => {
      const x = start + i * 4;
      let y = this.up;
      for (const [name, names] of this.layers.above) {
        const n = sum(column, names);
        if (!n) continue;
        const tall = Math.max(1, (n / this.highest) * (this.up - 1));
        y -= tall;
        d[name] += `M${x} ${y.toFixed(1)}h3v${tall.toFixed(1)}h-3z`;
      }
      for (const [name, names] of this.layers.below) {
        const n = sum(column, names);
        if (!n) continue;
        const tall = Math.max(1, (n / this.deepest) * (this.down - 1));
        d[name] += `M${x} ${this.up + this.band}h3v${tall.toFixed(1)}h-3z`;
      }
    });
    for (const [name, path] of Object.entries(this.paths)) attr(path, 'd', d[name]);
    if (this.kind === 'circuit') this.drawBand(columns, start);
    else attr(this.element.firstChild, 'd', `M${start} ${this.up}h${columns.length * 4}v1h${-columns.length * 4}z`);
    attr(this.element, 'aria-label', this.describe(columns));
  }

  drawBand(columns, start) {
    const runs = [];
    columns.forEach((column, i) => {
      const run = runs.at(-1);
      if (run?.letter === column.letter) run.size++;
      else runs.push({ letter: column.letter, from: i, size: 1 });
    });
    const rects = runs.map((run) => {
      const { kind, forced } = states[run.letter];
      const tall = bands[kind];
      return s('rect', {
        class: `band ${kind}${forced ? ' forced' : ''}`,
        x: start + run.from * 4,
        y: this.up + (this.band - tall) / 2,
        width: run.size * 4,
        height: tall,
      });
    });
    this.bandGroup.replaceChildren(...rects);
  }

  describe(columns) {
    const seconds = (n) => span(n * this.columnSeconds);
    if (this.kind !== 'circuit') return `Operations of the last ${seconds(columns.length)}`;
    const shares = {};
    for (const c of columns) shares[states[c.letter].name] = (shares[states[c.letter].name] ?? 0) + 1;
    const words = Object.entries(shares).map(([name, n]) => `${name.toLowerCase()} ${percent(n / columns.length)}`);
    return `Last ${seconds(columns.length)}: ${words.join(', ')} of the time`;
  }
}
