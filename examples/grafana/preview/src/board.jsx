import { useEffect, useMemo, useState } from 'react';
import { dateTime } from '@grafana/data';
import {
  ConstantVariable, EmbeddedScene, QueryVariable, SceneDataTransformer, SceneFlexItem, SceneFlexLayout, SceneQueryRunner, SceneTimeRange, SceneVariableSet, VizPanel,
  VariableValueSelectors,
} from '@grafana/scenes';
import { useTheme2 } from '@grafana/ui';

const cellHeight = 30;
const gap = 8;
const width = 1600;
const source = { type: 'prometheus', uid: 'prometheus' };

/** The panels of a dashboard, with those in closed rows if these are to be open. */
function laidOut(board, open) {
  const panels = [];
  let shift = 0;
  for (const p of board.panels) {
    panels.push({ ...p, gridPos: { ...p.gridPos, y: p.gridPos.y + shift } });
    if (open && p.collapsed) {
      panels.at(-1).collapsed = false;
      panels.push(...p.panels.map((q) => ({ ...q, gridPos: { ...q.gridPos, y: q.gridPos.y + shift } })));
      shift += Math.max(...p.panels.map((q) => q.gridPos.y + q.gridPos.h)) - p.gridPos.y - 1;
    }
  }
  return panels;
}

/** What a scene is made of, for a dashboard as Grafana reads it. */
function sceneOf(board, from, to, open) {
  const variables = board.templating.list.map((v) => {
    if (v.type === 'datasource') {
      const name = v.query === 'prometheus' ? 'Prometheus' : 'Jaeger';
      return new ConstantVariable({ name: v.name, label: v.label, value: name, hide: 2 });
    }
    return new QueryVariable({
      name: v.name, label: v.label, datasource: source, query: v.query, sort: v.sort, refresh: v.refresh,
      isMulti: v.multi, includeAll: v.includeAll, allValue: v.allValue, value: ['$__all'], text: ['All'],
    });
  });
  const panels = laidOut(board, open).map((p) =>
    p.type === 'row'
      ? p
      : {
          gridPos: p.gridPos,
          title: p.title,
          viz: new VizPanel({
            title: p.title, description: p.description, pluginId: p.type, options: p.options, fieldConfig: structuredClone(p.fieldConfig), displayMode: 'default',
            $data: new SceneDataTransformer({
              $data: new SceneQueryRunner({ datasource: source, queries: p.targets.map((t) => ({ ...t, datasource: source })), maxDataPoints: p.maxDataPoints, minInterval: '10s' }),
              transformations: p.transformations ?? [],
            }),
          }),
        }
  );
  const scene = new EmbeddedScene({
    $timeRange: new SceneTimeRange({ from: dateTime(from).toISOString(), to: dateTime(to).toISOString(), timeZone: 'utc' }),
    $variables: new SceneVariableSet({ variables }),
    controls: [new VariableValueSelectors({})],
    // Panels find variables and time through the scene they are in. It is not the scene
    // that draws them: their places are those of the dashboard.
    body: new SceneFlexLayout({ children: panels.filter((p) => p.viz).map((p) => new SceneFlexItem({ body: p.viz })) }),
  });
  return { scene, panels };
}

/** The marks of a dashboard's annotations, for all panels over time. */
export const marks = { list: [] };

async function loadMarks(board, datasource, from, to) {
  const step = 15;
  for (const a of board.annotations.list) {
    const request = { range: { from: dateTime(from), to: dateTime(to) }, intervalMs: step * 1000 };
    const query = datasource.fill(a.target.expr, request).replace(/\$(job|instance|circuit|retry)\b/g, '.*');
    const data = await datasource.ask('query_range', { query, start: Math.floor(from / 1000 / step) * step, end: to / 1000, step });
    for (const s of data.result) {
      for (const [t] of s.values) {
        marks.list.push({ time: t * 1000, color: a.iconColor });
      }
    }
  }
}

export function Board({ board, from, to, datasource, open }) {
  const theme = useTheme2();
  const { scene, panels } = useMemo(() => sceneOf(board, from, to, open), [board, from, to, open]);
  const [active, setActive] = useState(false);
  useEffect(() => {
    let stop;
    loadMarks(board, datasource, from, to).then(() => {
      // Only what is active is told of variables; what is not drawn must be told to be.
      const { body } = scene.state;
      const stops = [scene, body, ...body.state.children].map((o) => o.activate());
      stop = () => stops.forEach((f) => f());
      setActive(true);
    });
    return () => stop?.();
  }, [board, datasource, from, to, scene]);
  useEffect(() => {
    if (!active) {
      return;
    }
    // Quiet for a while means that everything is drawn.
    let quiet = 0;
    const timer = setInterval(() => {
      quiet = datasource.pending === 0 ? quiet + 1 : 0;
      if (quiet > 8) {
        document.body.dataset.drawn = 'yes';
        clearInterval(timer);
      }
    }, 250);
    return () => clearInterval(timer);
  }, [active, datasource]);
  if (!active) {
    return null;
  }
  const column = (width - 2 * 16 + gap) / 24;
  const height = Math.max(...panels.map((p) => (p.gridPos.y + p.gridPos.h) * (cellHeight + gap)));
  const format = (t) => dateTime(t).utc().format('HH:mm:ss');
  return (
    <div style={{ width, padding: 16, boxSizing: 'border-box', color: theme.colors.text.primary, fontFamily: theme.typography.fontFamily }}>
      <div style={{ display: 'flex', alignItems: 'center', gap: 16, marginBottom: 12 }}>
        <span style={{ fontSize: 18, fontWeight: 500 }}>{board.title}</span>
        <span style={{ color: theme.colors.text.secondary }}>
          {format(from)} to {format(to)}
        </span>
        <span style={{ marginLeft: 'auto', padding: '2px 8px', border: `1px solid ${theme.colors.warning.border}`, color: theme.colors.warning.text, borderRadius: 2 }}>
          Preview, drawn with Grafana's libraries. Not a Grafana screenshot.
        </span>
      </div>
      <div style={{ display: 'flex', flexWrap: 'wrap', gap: 8, marginBottom: 12 }}>
        {scene.state.controls.map((c) => (
          <c.Component key={c.state.key} model={c} />
        ))}
      </div>
      <div style={{ position: 'relative', height }}>
        {panels.map((p) => {
          const g = p.gridPos;
          const style = { position: 'absolute', left: g.x * column, top: g.y * (cellHeight + gap), width: g.w * column - gap, height: g.h * (cellHeight + gap) - gap };
          return (
            <div key={p.title} style={style}>
              {p.viz ? <p.viz.Component model={p.viz} /> : <div style={{ fontSize: 16, fontWeight: 500, padding: '4px 0' }}>{p.collapsed ? `› ${p.title} (${p.panels.length} panels)` : `⌄ ${p.title}`}</div>}
            </div>
          );
        })}
      </div>
    </div>
  );
}
