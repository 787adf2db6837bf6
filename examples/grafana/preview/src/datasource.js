// Asks the query API of a Prometheus what a panel asks, as Grafana's data source does.
import { DataSourceApi, DataTopic, FieldType, LoadingState, toDataFrame } from '@grafana/data';
import { sceneGraph } from '@grafana/scenes';
import { from, map, catchError, of } from 'rxjs';

const exportSeconds = 10; // as the data source in the repository is told of its own

export class Datasource extends DataSourceApi {
  pending = 0;

  constructor() {
    const settings = {
      id: 1, uid: 'prometheus', type: 'prometheus', name: 'Prometheus', access: 'proxy', readOnly: true, jsonData: {},
      meta: { id: 'prometheus', name: 'Prometheus', type: 'datasource', info: { logos: {} }, module: '', baseUrl: '' },
    };
    super(settings);
    this.instanceSettings = settings;
    this.interval = `${exportSeconds}s`;
  }

  async ask(path, params) {
    this.pending++;
    try {
      const answer = await (await fetch(`./api/v1/${path}?${new URLSearchParams(params)}`)).json();
      if (answer.status !== 'success') {
        throw new Error(answer.error);
      }
      return answer.data;
    } finally {
      this.pending--;
    }
  }

  fill(text, request) {
    const step = Math.max(request.intervalMs / 1000, exportSeconds);
    const range = Math.round((request.range.to.valueOf() - request.range.from.valueOf()) / 1000);
    const macros = { __interval: `${step}s`, __rate_interval: `${Math.max(step + exportSeconds, 4 * exportSeconds)}s`, __range: `${range}s` };
    const spelled = text.replace(/\$(__interval|__rate_interval|__range)\b/g, (_, name) => macros[name]);
    const scene = request.scopedVars?.__sceneObject?.value?.valueOf();
    return scene ? sceneGraph.interpolate(scene, spelled, request.scopedVars, (v) => (Array.isArray(v) ? `(${v.join('|')})` : v)) : spelled;
  }

  async query(request) {
    const step = Math.max(request.intervalMs / 1000, exportSeconds);
    const start = Math.floor(request.range.from.valueOf() / 1000 / step) * step;
    const end = Math.floor(request.range.to.valueOf() / 1000 / step) * step;
    const frames = [];
    for (const target of request.targets) {
      const query = this.fill(target.expr, request);
      if (target.instant) {
        const data = await this.ask('query', { query, time: request.range.to.valueOf() / 1000 });
        frames.push(...(target.format === 'table' ? [table(target, data.result, request)] : data.result.map((s) => line(target, s, [s.value]))));
        continue;
      }
      const data = await this.ask('query_range', { query, start, end, step });
      frames.push(...data.result.map((s) => line(target, s, s.values, step, start, end)));
      if (target.exemplar) {
        const found = await this.ask('query_exemplars', { query, start, end });
        frames.push(exemplars(target, found, step));
      }
    }
    return { data: frames };
  }

  async metricFindQuery(query, options) {
    const text = typeof query === 'string' ? query : query.query;
    const [, selector, label] = /^label_values\((.+), ?(\w+)\)$/.exec(text);
    const request = { range: options.range, intervalMs: 1000, scopedVars: options.scopedVars };
    const data = await this.ask('query', { query: `group by (${label}) (${this.fill(selector, request)})`, time: options.range.to.valueOf() / 1000 });
    return data.result.map((s) => ({ text: s.metric[label], value: s.metric[label] })).filter((v) => v.text);
  }

  async testDatasource() {
    return { status: 'success', message: '' };
  }
}

const number = (text) => (text === 'NaN' ? null : Number(text));

function legend(target, labels) {
  return target.legendFormat?.replace(/{{\s*(\w+)\s*}}/g, (_, name) => labels[name] ?? '');
}

/** A series; steps without a value are null, so that lines have gaps. */
function line(target, series, values, step, start, end) {
  const times = [];
  const numbers = [];
  const known = new Map(values.map(([t, v]) => [t, number(v)]));
  if (step) {
    for (let t = start; t <= end; t += step) {
      times.push(t * 1000);
      numbers.push(known.get(t) ?? null);
    }
  } else {
    times.push(values[0][0] * 1000);
    numbers.push(number(values[0][1]));
  }
  return toDataFrame({
    refId: target.refId,
    name: legend(target, series.metric),
    meta: { type: 'timeseries-multi' },
    fields: [
      { name: 'Time', type: FieldType.time, values: times, config: step ? { interval: step * 1000 } : {} },
      { name: 'Value', type: FieldType.number, values: numbers, labels: series.metric, config: { displayNameFromDS: legend(target, series.metric) } },
    ],
  });
}

function table(target, result, request) {
  const names = [...new Set(result.flatMap((s) => Object.keys(s.metric)))].sort();
  return toDataFrame({
    refId: target.refId,
    fields: [
      { name: 'Time', type: FieldType.time, values: result.map((s) => s.value[0] * 1000) },
      ...names.map((name) => ({ name, type: FieldType.string, values: result.map((s) => s.metric[name] ?? '') })),
      { name: request.targets.length > 1 ? `Value #${target.refId}` : 'Value', type: FieldType.number, values: result.map((s) => number(s.value[1])) },
    ],
  });
}

/** Some exemplar of each few steps: Grafana thins them out as well. */
function exemplars(target, found, step) {
  const slots = new Map();
  for (const e of found.flatMap((f) => f.exemplars).sort((a, b) => a.timestamp - b.timestamp)) {
    const slot = Math.floor(e.timestamp / (3 * step));
    slots.set(slot, [...(slots.get(slot) ?? []), e]);
  }
  const kept = [...slots].map(([slot, all]) => all[(slot * 7919) % all.length]);
  return toDataFrame({
    refId: target.refId,
    name: 'exemplar',
    meta: { dataTopic: DataTopic.Annotations, custom: { resultType: 'exemplar' } },
    fields: [
      { name: 'Time', type: FieldType.time, values: kept.map((e) => e.timestamp * 1000) },
      { name: 'Value', type: FieldType.number, values: kept.map((e) => Number(e.value)) },
    ],
  });
}

export function runRequest(datasource, request) {
  return from(datasource.query(request)).pipe(
    map(({ data }) => ({
      state: LoadingState.Done,
      series: data.filter((f) => f.meta?.dataTopic !== DataTopic.Annotations),
      annotations: data.filter((f) => f.meta?.dataTopic === DataTopic.Annotations),
      timeRange: request.range,
      request,
    })),
    catchError((error) => {
      console.error(error);
      return of({ state: LoadingState.Error, series: [], errors: [{ message: String(error) }], error: { message: String(error) }, timeRange: request.range, request });
    })
  );
}
