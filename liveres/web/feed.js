// Getting the data: as a stream, or where that does not arrive by asking.

const patience = 1500; // ms to wait for the first event of a stream before asking as well
const firstEvent = 4000; // and before giving it up: some proxies hold it back
const nextEvent = 6000; // and for the next; there is one each second
const pollEvery = 2000;

/**
 * Feed calls `report` with whole reports, `update` with what changed, `lost` with the
 * number of updates that were lost, and `mode` with 'connecting', 'live', 'polling'
 * or 'disconnected', whenever that is known anew.
 */
export class Feed {
  constructor(on) {
    this.on = on;
    this.live = false; // the stream brings events
    this.failures = 0; // streams in a row that brought none
    this.misses = 0; // requests in a row that failed
    this.timers = {};
    this.open();
  }

  later(name, ms, f) {
    clearTimeout(this.timers[name]);
    this.timers[name] = setTimeout(() => {
      this.timers[name] = null;
      f();
    }, ms);
  }

  stop(name) {
    clearTimeout(this.timers[name]);
    this.timers[name] = null;
  }

  open() {
    this.close();
    const source = (this.source = new EventSource('events'));
    const take = (then) => (event) => {
      if (this.source !== source) return;
      this.live = true;
      this.failures = this.misses = 0;
      this.stop('poll');
      this.later('silence', nextEvent, () => this.fail());
      then(event.data);
      this.on.mode('live');
    };
    source.addEventListener('snapshot', take((data) => this.on.report(JSON.parse(data))));
    source.addEventListener('update', take((data) => this.on.update(JSON.parse(data)) || this.open()));
    source.addEventListener('lost', take((data) => this.on.lost(Number(data))));
    source.addEventListener('error', () => this.source === source && this.fail());
    this.later('silence', firstEvent, () => this.fail());
    if (!this.timers.poll) this.later('poll', patience, () => this.poll());
  }

  close() {
    this.stop('silence');
    this.stop('stream');
    this.source?.close();
    this.source = null;
    this.live = false;
  }

  /** The stream ended, or brings nothing: ask instead, and try another one later. */
  fail() {
    this.close();
    this.failures++;
    if (!this.timers.poll) this.poll();
  }

  async poll() {
    let report = null;
    try {
      const response = await fetch('?format=json', { cache: 'no-store', signal: AbortSignal.timeout(8000) });
      if (response.ok) report = await response.json();
    } catch {
      // as when it is not ok
    }
    if (this.live) return;
    if (!report) {
      this.failures = 0; // when it is back, streams may work
      this.misses++;
      this.on.mode('disconnected');
      this.later('poll', Math.min(8000, 500 * 2 ** this.misses) * (0.75 + Math.random() / 2), () => this.poll());
      return;
    }
    this.misses = 0;
    this.on.report(report);
    this.later('poll', pollEvery, () => this.poll());
    if (this.failures > 1) {
      this.on.mode('polling');
      if (!this.source && !this.timers.stream) {
        this.later('stream', Math.min(120000, 5000 * 2 ** this.failures), () => this.open());
      }
    } else if (!this.source) {
      this.on.mode('connecting');
      this.open(); // it failed once: perhaps there was a restart
    }
  }
}
