// Numbers, times and words as people read them. A number and its unit stay on one line.

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
const hundredth = new Intl.NumberFormat('en', { maximumFractionDigits: 2 });
const compact = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });
const clockTime = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
const dayAndTime = new Intl.DateTimeFormat(undefined, { month: 'short', day: 'numeric', hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });

export const count = (n) => whole.format(n);
export const shortCount = (n) => (n < 100000 ? whole.format(n) : compact.format(n));

/** A number of things per second. */
export function rate(n) {
  if (n === 0) return '0';
  if (n < 0.1) return '<0.1';
  return n < 10 ? tenth.format(n) : n < 100000 ? whole.format(n) : compact.format(n);
}

/** A ratio in [0,1] as a percentage. */
export function percent(ratio) {
  const p = ratio * 100;
  if (p > 0 && p < 0.1) return '<0.1\u00a0%';
  if (p > 99.9 && p < 100) return '>99.9\u00a0%';
  return tenth.format(p) + '\u00a0%';
}

export const times = (x) => '×' + hundredth.format(x);

/** How long a call or a wait took; seconds with the precision that matters. */
export function took(seconds) {
  const ms = seconds * 1000;
  if (ms === 0) return '0\u00a0ms';
  if (ms < 0.01) return '<0.01\u00a0ms';
  if (ms < 1) return hundredth.format(ms) + '\u00a0ms';
  if (ms < 10) return tenth.format(ms) + '\u00a0ms';
  if (ms < 1000) return whole.format(ms) + '\u00a0ms';
  if (seconds < 10) return hundredth.format(seconds) + '\u00a0s';
  if (seconds < 100) return tenth.format(seconds) + '\u00a0s';
  return span(seconds);
}

/** A span of time on a clock; full seconds. */
export function span(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  const parts = (a, ua, b, ub) => (b ? `${a}\u00a0${ua} ${b}\u00a0${ub}` : `${a}\u00a0${ua}`);
  if (s < 60) return `${s}\u00a0s`;
  if (s < 3600) return parts(Math.floor(s / 60), 'min', s % 60, 's');
  if (s < 86400) return parts(Math.floor(s / 3600), 'h', Math.floor((s % 3600) / 60), 'min');
  return parts(Math.floor(s / 86400), 'd', Math.floor((s % 86400) / 3600), 'h');
}

/** A time of day, with the date if it was not today. */
export function at(ms) {
  const far = Math.abs(Date.now() - ms) > 20 * 3600 * 1000;
  return (far ? dayAndTime : clockTime).format(ms);
}

/** Text that may be of any length, cut to what a line can hold. */
export function cut(text, most = 120) {
  if (text.length <= most) return text;
  const kept = text.slice(0, most - 1);
  return (/[\uD800-\uDBFF]$/.test(kept) ? kept.slice(0, -1) : kept) + '…';
}

// States. The letters are those of a timeline.
const letters = { closed: 'c', open: 'o', 'half-open': 'h' };
const shadowed = { c: 'c', o: 's', h: 'p' };
export const letterOf = (state, forced, shadow) => (forced ? letters[state].toUpperCase() : shadow ? shadowed[letters[state]] : letters[state]);

export const states = {
  O: { name: 'Forced open', kind: 'open', forced: true, severity: 4 },
  o: { name: 'Open', kind: 'open', forced: false, severity: 3 },
  h: { name: 'Half-open', kind: 'half', forced: false, severity: 2 },
  s: { name: 'Open in shadow', kind: 'half', forced: false, severity: 1 },
  p: { name: 'Half-open in shadow', kind: 'half', forced: false, severity: 1 },
  C: { name: 'Forced closed', kind: 'closed', forced: true, severity: 1 },
  c: { name: 'Closed', kind: 'closed', forced: false, severity: 0 },
};

export const reasons = {
  error_rate: 'the failure ratio reached its threshold',
  slow_call_rate: 'the share of slow calls reached its threshold',
  sleep_window_elapsed: 'the sleep window ended',
  probes_passed: 'enough probes passed',
  probes_failed: 'too many probes failed',
  probe_timeout: 'a probe did not come back in time',
  forced: 'it was forced',
  force_cleared: 'the force was lifted',
  reset: 'it was reset',
};

export const results = {
  success: 'at the first attempt',
  success_after_retry: 'saved by a retry',
  exhausted: 'exhausted',
  not_retryable: 'not retryable',
  deadline: 'out of time',
  canceled: 'canceled',
  rejected: 'rejected by a circuit',
  retry_after_too_long: 'asked to wait too long',
  budget_exhausted: 'retry budget exhausted',
  panic: 'panicked',
  other: 'other',
};
