// What is known of the process: the last report, and the updates since.

import { letterOf } from './format.js';

const circuitSeries = ['success', 'failure', 'ignored', 'rejected'];
const retrySeries = ['success', 'success_after_retry', 'failure', 'ignored', 'rejected'];

/** A timeline: for each column that is kept, its number, state and counts. */
class Timeline {
  constructor(series, most) {
    this.series = series;
    this.most = most;
    this.columns = [];
    this.version = 0; // changes when anything does
  }

  /** Adds columns without calls, up to the given one. */
  extend(last, letter) {
    const end = this.columns.at(-1);
    if (!end || end.n >= last) return;
    for (let n = Math.max(end.n + 1, last - this.most); n <= last; n++) this.columns.push(this.column(n, letter));
    this.trim();
  }

  column(n, letter) {
    const column = { n, letter };
    for (const name of this.series) column[name] = 0;
    return column;
  }

  /** Takes over what the process says about some columns. */
  put(history, letter) {
    this.extend(history.first - 1, letter);
    const size = history.success.length;
    for (let i = 0; i < size; i++) {
      const n = history.first + i;
      if (n < this.columns[0]?.n) continue;
      let column = this.columns[n - (this.columns[0]?.n ?? n)];
      if (!column) this.columns.push((column = this.column(n, letter)));
      if (history.states) column.letter = history.states[i];
      for (const name of this.series) column[name] = history[name][i];
    }
    this.trim();
  }

  trim() {
    if (this.columns.length > this.most) this.columns.splice(0, this.columns.length - this.most);
    this.version++;
  }
}

export class Model {
  constructor() {
    this.frame = null;
    this.circuits = new Map(); // by id
    this.retries = new Map(); // by name
    this.lost = 0; // updates that this browser was too slow for
    this.restarted = null; // when the process was started, if that happened while we watched
    this.clockOffset = 0; // its clock, less ours
    this.changes = []; // of state, since they were taken
  }

  /** The time of the process, in milliseconds. */
  now() {
    return Date.now() + this.clockOffset;
  }

  /** Takes over a whole report. */
  replace(report) {
    const known = this.frame && this.frame.process.id === report.process.id;
    if (this.frame && !known) {
      this.restarted = Date.parse(report.process.started);
      this.lost = 0;
    }
    const before = known ? this.circuits : new Map();
    this.circuits = new Map();
    this.retries = new Map();
    this.takeFrame(report);
    for (const record of report.circuits) this.takeCircuit(record, before.get(record.id));
    for (const record of report.retries) this.takeRetry(record);
    this.nameTwins();
  }

  /** Takes over an update. */
  apply(update) {
    if (!this.frame || this.frame.process.id !== update.process.id) return false;
    this.takeFrame(update);
    for (const id of update.gone ?? []) this.circuits.delete(id);
    for (const record of update.circuits ?? []) this.takeCircuit(record, this.circuits.get(record.id));
    for (const record of update.retries ?? []) this.takeRetry(record);
    const last = update.columns.last;
    for (const c of this.circuits.values()) c.timeline.extend(last, c.letter);
    for (const r of this.retries.values()) r.timeline.extend(last, 'c');
    if (update.gone || update.circuits?.some((c) => c.name !== undefined)) this.nameTwins();
    return true;
  }

  takeFrame(frame) {
    // What was under way for the shortest time tells the offset best.
    const offset = Date.parse(frame.time) - Date.now();
    const same = this.frame?.process.id === frame.process.id;
    this.clockOffset = same && Math.abs(offset - this.clockOffset) < 5000 ? Math.max(offset, this.clockOffset - 20) : offset;
    const { circuits, retries, gone, ...rest } = frame;
    this.frame = rest;
  }

  takeCircuit(record, before) {
    const whole = record.name !== undefined;
    if (!whole && !before) return; // about a circuit that we never heard of: a report will come
    const { history, transitions, ...figures } = record;
    const circuit = whole ? figures : { ...before, ...figures, open_until: figures.open_until, probes: figures.probes, latency: figures.latency };
    circuit.letter = letterOf(circuit.state, circuit.forced, circuit.shadow);
    circuit.timeline = whole ? new Timeline(circuitSeries, this.frame.columns.count) : before.timeline;
    if (history) circuit.timeline.put(history, before ? before.letter : circuit.letter);
    // The first update after a report may repeat what was in it.
    const newest = before?.transitions[0]?.generation ?? 0;
    circuit.transitions = whole ? transitions
      : [...(transitions ?? []).filter((t) => t.generation > newest), ...before.transitions].slice(0, 32);
    if (before && before.letter !== circuit.letter) this.changes.push(circuit);
    this.circuits.set(circuit.id, circuit);
  }

  takeRetry(record) {
    const before = this.retries.get(record.name);
    const { history, last, ...figures } = record;
    const retry = { ...before, ...figures, recent: figures.recent };
    retry.timeline = before?.timeline ?? new Timeline(retrySeries, this.frame.columns.count);
    if (history) retry.timeline.put(history, 'c');
    retry.last = last ?? before?.last ?? [];
    this.retries.set(retry.name, retry);
  }

  /** Notes which circuits share their name with another. */
  nameTwins() {
    const seen = new Map();
    for (const c of this.circuits.values()) seen.set(c.name, (seen.get(c.name) ?? 0) + 1);
    for (const c of this.circuits.values()) c.twin = seen.get(c.name) > 1;
  }

  /** The changes of state since the last call. */
  takeChanges() {
    const changes = this.changes;
    this.changes = [];
    return changes;
  }
}
