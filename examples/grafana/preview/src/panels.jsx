// The panels, by the name of the plugin that Grafana has for them. Figures, lines and
// tables are the components of @grafana/ui that those plugins are made of. The state
// timeline and the heatmap are drawn here.
import { useLayoutEffect, useMemo, useRef } from 'react';
import {
  cacheFieldDisplayNames, EventBusSrv, FieldType, formattedValueToString, getDisplayValueAlignmentFactors, getFieldDisplayName, getFieldDisplayValues, getValueFormat, identityOverrideProcessor, PanelPlugin, VizOrientation,
} from '@grafana/data';
import { BigValue, PanelContextProvider, TimeSeries, usePanelContext, useTheme2, VizRepeater } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';
import { marks } from './board.jsx';

/** Has custom field options taken over as they are, as a plugin's registry does. */
function withCustom(plugin, defaults) {
  plugin.useFieldConfig({
    useCustomConfig: (builder) => {
      for (const [path, defaultValue] of Object.entries(defaults)) {
        builder.addCustomEditor({
          id: path, path, name: path, defaultValue, editor: () => null, override: () => null, process: identityOverrideProcessor, shouldApply: () => true,
        });
      }
    },
  });
  return plugin;
}

const lineDefaults = {
  axisPlacement: 'auto', axisSoftMax: undefined, barAlignment: 0, drawStyle: 'line', fillOpacity: 0, gradientMode: 'none', lineInterpolation: 'linear', lineStyle: { fill: 'solid' }, lineWidth: 1,
  pointSize: 5, showPoints: 'auto', spanNulls: false, stacking: { mode: 'none', group: 'A' }, thresholdsStyle: { mode: 'off' }, hideFrom: { legend: false, tooltip: false, viz: false }, scaleDistribution: { type: 'linear' },
  axisBorderShow: false, axisColorMode: 'text', axisCenteredZero: false, axisLabel: '', barWidthFactor: 0.6, barMaxWidth: 200, insertNulls: false,
};

function NoData({ fieldConfig, width, height }) {
  const theme = useTheme2();
  return (
    <div style={{ width, height, display: 'flex', alignItems: 'center', justifyContent: 'center', color: theme.colors.text.secondary }}>
      {fieldConfig.defaults.noValue ?? 'No data'}
    </div>
  );
}

function Lines(props) {
  const { data, width, height, options, timeRange, timeZone } = props;
  const theme = useTheme2();
  const frames = useMemo(
    () =>
      data.series
        .filter((f) => f.fields.some((x) => x.type === FieldType.number))
        .map((f, i) => ({ ...f, fields: f.fields.map((x) => ({ ...x, state: { ...x.state, seriesIndex: i } })) })),
    [data.series]
  );
  const hooked = useRef(new WeakSet());
  const context = usePanelContext();
  const bus = useMemo(() => new EventBusSrv(), []);
  if (frames.length === 0) {
    return <NoData {...props} />;
  }
  const exemplars = (data.annotations ?? []).flatMap((f) => f.fields[0].values.map((t, i) => [t, f.fields[1].values[i]]));
  return (
    <PanelContextProvider value={{ ...context, eventBus: bus, eventsScope: 'preview' }}>
    <TimeSeries width={width} height={height} frames={frames} timeRange={timeRange} timeZone={timeZone} legend={options.legend} options={options}>
      {(builder) => {
        if (!hooked.current.has(builder)) {
          hooked.current.add(builder);
          builder.addHook('draw', (u) => over(u, theme, exemplars));
        }
        return null;
      }}
    </TimeSeries>
    </PanelContextProvider>
  );
}

/** Marks of annotations, and exemplars, over a plot. */
function over(u, theme, exemplars) {
  const { ctx } = u;
  const { left, top, width, height } = u.bbox;
  const density = devicePixelRatio;
  ctx.save();
  ctx.beginPath();
  ctx.rect(left, top - 4 * density, width, height + 8 * density);
  ctx.clip();
  for (const m of marks.list) {
    const x = u.valToPos(m.time, 'x', true);
    ctx.strokeStyle = ctx.fillStyle = theme.visualization.getColorByName(m.color);
    ctx.setLineDash([4 * density, 4 * density]);
    ctx.lineWidth = density;
    ctx.beginPath();
    ctx.moveTo(x, top);
    ctx.lineTo(x, top + height);
    ctx.stroke();
    ctx.beginPath();
    ctx.moveTo(x - 4 * density, top + height + 4 * density);
    ctx.lineTo(x + 4 * density, top + height + 4 * density);
    ctx.lineTo(x, top + height - 2 * density);
    ctx.fill();
  }
  ctx.setLineDash([]);
  const { scale } = u.series[1];
  for (const [t, v] of exemplars) {
    const x = u.valToPos(t, 'x', true);
    const y = Math.max(u.valToPos(v, scale, true), top + 3 * density);
    const r = 3.5 * density;
    ctx.fillStyle = theme.visualization.getColorByName('semi-dark-green');
    ctx.beginPath();
    ctx.moveTo(x, y - r);
    ctx.lineTo(x + r, y);
    ctx.lineTo(x, y + r);
    ctx.lineTo(x - r, y);
    ctx.fill();
  }
  ctx.restore();
}

function Figures(props) {
  const { data, width, height, options, fieldConfig, replaceVariables, timeZone } = props;
  const theme = useTheme2();
  const values = getFieldDisplayValues({
    fieldConfig, reduceOptions: options.reduceOptions, replaceVariables, theme, data: data.series, sparkline: options.graphMode !== 'none', timeZone,
  });
  return (
    <VizRepeater
      source={data} getValues={() => values} getAlignmentFactors={getDisplayValueAlignmentFactors} width={width} height={height} orientation={values.length > 1 ? VizOrientation.Vertical : VizOrientation.Horizontal} itemSpacing={3} autoGrid={false} renderCounter={1}
      renderValue={({ value, width, height, alignmentFactors, count }) => (
        <BigValue
          value={value.display} count={count} sparkline={value.sparkline} alignmentFactors={alignmentFactors} width={width} height={height} theme={theme} colorMode={options.colorMode} graphMode={options.graphMode}
          justifyMode={options.justifyMode} textMode={values.length > 1 ? 'value_and_name' : options.textMode} wideLayout={options.wideLayout}
        />
      )}
    />
  );
}

function TablePanel(props) {
  const { data, width, height, options, timeRange } = props;
  cacheFieldDisplayNames(data.series); // which the columns are called by
  const frame = data.series[0];
  if (!frame?.length) {
    return <NoData {...props} />;
  }
  return (
    <TableNG
      data={frame} width={width} height={height} noHeader={!options.showHeader} showTypeIcons={false} resizable={false} sortBy={options.sortBy} sortByBehavior="initial" columnMinWidth={80} cellHeight={options.cellHeight} timeRange={timeRange}
      fieldConfig={props.fieldConfig} getActions={() => []} structureRev={data.structureRev} frozenColumns={0}
    />
  );
}

const clock = (t) => new Date(t).toISOString().slice(11, 16);

function ticks(from, to) {
  const step = [60, 120, 300, 600].find((s) => (to - from) / 1000 / s <= 9) * 1000;
  const all = [];
  for (let t = Math.ceil(from / step) * step; t <= to; t += step) {
    all.push(t);
  }
  return all;
}

function StateTimeline(props) {
  const { data, width, height, options, timeRange } = props;
  const theme = useTheme2();
  const rows = data.series.flatMap((frame) => {
    const times = frame.fields.find((f) => f.type === FieldType.time).values;
    return frame.fields
      .filter((f) => f.type === FieldType.number)
      .map((field) => ({ name: getFieldDisplayName(field, frame, data.series), field, times }));
  });
  if (rows.length === 0) {
    return <NoData {...props} />;
  }
  const from = timeRange.from.valueOf();
  const to = timeRange.to.valueOf();
  const axis = 20;
  const legendHeight = 24;
  const label = Math.min(width / 3, 8 + Math.max(...rows.map((r) => r.name.length)) * 6.6);
  const plot = width - label - 8;
  const rowHeight = (height - axis - legendHeight) / rows.length;
  const x = (t) => label + (Math.max(0, Math.min(1, (t - from) / (to - from)))) * plot;
  const seen = new Map();
  return (
    <div style={{ width, height }}>
      <svg width={width} height={height - legendHeight} style={{ display: 'block', font: `12px ${theme.typography.fontFamily}` }}>
        {ticks(from, to).map((t) => (
          <g key={t}>
            <line x1={x(t)} x2={x(t)} y1={0} y2={height - axis - legendHeight} stroke={theme.colors.border.weak} />
            <text x={x(t)} y={height - legendHeight - 5} textAnchor="middle" fill={theme.colors.text.secondary}>{clock(t)}</text>
          </g>
        ))}
        {rows.map(({ name, field, times }, i) => {
          const step = times.length > 1 ? times[1] - times[0] : 1000;
          const spans = [];
          times.forEach((t, k) => {
            const v = field.values[k];
            const last = spans.at(-1);
            if (v === null || v === undefined) {
              return;
            }
            if (last && last.value === v && last.to === t) {
              last.to = t + step;
            } else {
              spans.push({ value: v, from: t, to: t + step });
            }
          });
          const y = i * rowHeight;
          const h = rowHeight * options.rowHeight;
          return (
            <g key={name}>
              <text x={label - 8} y={y + rowHeight / 2 + 4} textAnchor="end" fill={theme.colors.text.primary}>{name}</text>
              {spans.map((s) => {
                const shown = field.display(s.value);
                seen.set(s.value, shown);
                const w = x(s.to) - x(s.from);
                return (
                  <g key={s.from}>
                    <rect x={x(s.from)} y={y + (rowHeight - h) / 2} width={Math.max(1, w)} height={h} fill={shown.color} fillOpacity={0.8} />
                    {w > shown.text.length * 7 + 8 && (
                      <text x={x(s.from) + 5} y={y + rowHeight / 2 + 4} fill={theme.colors.getContrastText(shown.color)}>{shown.text}</text>
                    )}
                  </g>
                );
              })}
            </g>
          );
        })}
      </svg>
      <div style={{ height: legendHeight, display: 'flex', gap: 16, paddingLeft: label, alignItems: 'center', fontSize: 12 }}>
        {[...seen].sort(([a], [b]) => a - b).map(([value, shown]) => (
          <span key={value}>
            <span style={{ display: 'inline-block', width: 14, height: 4, background: shown.color, marginRight: 6, borderRadius: 2, verticalAlign: 'middle' }} />
            {shown.text}
          </span>
        ))}
      </div>
    </div>
  );
}

// An approximation of the colour map Turbo, by its authors.
function turbo(x) {
  const r = 34.61 + x * (1172.33 - x * (10793.56 - x * (33300.12 - x * (38394.49 - x * 14825.05))));
  const g = 23.31 + x * (557.33 + x * (1225.33 - x * (3574.96 - x * (1073.77 + x * 707.56))));
  const b = 27.2 + x * (3211.1 - x * (15327.97 - x * (27814 - x * (22569.18 - x * 6838.66))));
  return `rgb(${[r, g, b].map((v) => Math.max(0, Math.min(255, Math.round(v)))).join(',')})`;
}

function Heatmap(props) {
  const { data, width, height, timeRange } = props;
  const theme = useTheme2();
  const canvas = useRef(null);
  const series = data.series
    .map((f) => ({ le: Number(f.fields[1].labels?.le?.replace('+Inf', 'Infinity') ?? NaN), times: f.fields[0].values, values: f.fields[1].values }))
    .filter((s) => !Number.isNaN(s.le))
    .sort((a, b) => a.le - b.le);
  // Buckets hold all that is less: what is between two is their difference.
  const cells = series.map((s, i) => s.values.map((v, k) => Math.max(0, (v ?? 0) - (i ? (series[i - 1].values[k] ?? 0) : 0))));
  const used = cells.map((row) => row.some((v) => v > 0.01));
  const first = Math.max(0, used.indexOf(true) - 0);
  const last = used.lastIndexOf(true);
  useLayoutEffect(() => {
    if (!canvas.current || last < first) {
      return;
    }
    const density = devicePixelRatio;
    canvas.current.width = width * density;
    canvas.current.height = height * density;
    const ctx = canvas.current.getContext('2d');
    ctx.scale(density, density);
    ctx.font = `12px ${theme.typography.fontFamily}`;
    const left = 52;
    const bottom = 40;
    const rows = last - first + 1;
    const rowHeight = (height - bottom - 4) / rows;
    const from = timeRange.from.valueOf();
    const to = timeRange.to.valueOf();
    const x = (t) => left + ((t - from) / (to - from)) * (width - left - 8);
    const max = Math.max(...cells.flat());
    const format = getValueFormat('s');
    ctx.fillStyle = theme.colors.text.secondary;
    ctx.textAlign = 'right';
    for (let r = 0; r < rows; r++) {
      const le = series[first + r].le;
      const y = 4 + (rows - r - 1) * rowHeight;
      ctx.fillStyle = theme.colors.text.secondary;
      ctx.fillText(Number.isFinite(le) ? formattedValueToString(format(le)) : '+Inf', left - 6, y + Math.min(rowHeight / 2, 8) + 4);
      const { times } = series[first + r];
      const step = times.length > 1 ? times[1] - times[0] : 1000;
      cells[first + r].forEach((v, k) => {
        if (v > 0.01) {
          ctx.fillStyle = turbo(Math.pow(v / max, 0.5));
          ctx.fillRect(x(times[k] - step), y + 0.5, Math.max(1, x(times[k]) - x(times[k] - step) - 1), rowHeight - 1);
        }
      });
    }
    ctx.textAlign = 'center';
    ctx.fillStyle = theme.colors.text.secondary;
    for (const t of ticks(from, to).filter((_, i) => i % 2 === 0)) {
      ctx.fillText(clock(t), x(t), height - bottom + 14);
    }
    for (let i = 0; i < 100; i++) {
      ctx.fillStyle = turbo(i / 99);
      ctx.fillRect(left + i * 1.5, height - 14, 2, 8);
    }
    ctx.fillStyle = theme.colors.text.secondary;
    ctx.textAlign = 'left';
    ctx.fillText(`0 to ${Math.round(max)} calls`, left + 160, height - 6);
  });
  if (last < first) {
    return <NoData {...props} />;
  }
  return <canvas ref={canvas} style={{ width, height, display: 'block' }} />;
}

export const plugins = {
  timeseries: withCustom(new PanelPlugin(Lines), lineDefaults).setDataSupport({ annotations: true, alertStates: false }),
  stat: new PanelPlugin(Figures).useFieldConfig({}),
  table: withCustom(new PanelPlugin(TablePanel), { align: 'auto', cellOptions: { type: 'auto' }, filterable: false, inspect: false, width: undefined, minWidth: 50 }),
  'state-timeline': withCustom(new PanelPlugin(StateTimeline), { fillOpacity: 70, lineWidth: 0, hideFrom: { legend: false, tooltip: false, viz: false } }),
  heatmap: withCustom(new PanelPlugin(Heatmap), { scaleDistribution: { type: 'linear' }, hideFrom: { legend: false, tooltip: false, viz: false } }),
};
for (const [id, plugin] of Object.entries(plugins)) {
  plugin.meta = { id, name: id, type: 'panel', info: { version: '', logos: {} }, module: '', baseUrl: '', sort: 0, skipDataQuery: false };
}
