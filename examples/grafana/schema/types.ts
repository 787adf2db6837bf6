// What a dashboard of this repository may contain: Grafana's own types, with what they
// leave open filled in. Options and field configuration depend on the type of a panel;
// queries and annotations are those of the Prometheus data source.
import type {
  AnnotationQuery,
  Dashboard as GrafanaDashboard,
  DataSourceRef,
  FieldConfig as GrafanaFieldConfig,
  Panel as GrafanaPanel,
  RowPanel,
  VariableModel,
} from './node_modules/@grafana/schema/dist/types/raw/dashboard/x/types.gen';
import type * as heatmap from './node_modules/@grafana/schema/dist/types/raw/composable/heatmap/panelcfg/x/types.gen';
import type * as stat from './node_modules/@grafana/schema/dist/types/raw/composable/stat/panelcfg/x/types.gen';
import type * as statetimeline from './node_modules/@grafana/schema/dist/types/raw/composable/statetimeline/panelcfg/x/types.gen';
import type * as table from './node_modules/@grafana/schema/dist/types/raw/composable/table/panelcfg/x/types.gen';
import type * as timeseries from './node_modules/@grafana/schema/dist/types/raw/composable/timeseries/panelcfg/x/types.gen';

interface Source extends DataSourceRef {
  type: 'prometheus';
  uid: '${datasource}';
}

interface Query {
  datasource?: Source;
  editorMode?: 'code' | 'builder';
  exemplar?: boolean;
  expr: string;
  format?: 'time_series' | 'table' | 'heatmap';
  hide?: boolean;
  instant?: boolean;
  interval?: string;
  legendFormat?: string;
  range?: boolean;
  refId: string;
}

interface Annotation extends Omit<AnnotationQuery, 'target'> {
  datasource: Source;
  tagKeys?: string;
  target: Query;
  textFormat?: string;
  titleFormat?: string;
  useValueForTime?: boolean;
}

interface Variable extends Omit<VariableModel, 'query' | 'type' | 'current'> {
  current: { selected?: boolean; text?: string | string[]; value?: string | string[] };
  query: string | { qryType: number; query: string; refId: string };
  type: 'datasource' | 'query';
}

interface Link {
  title: string;
  url: string;
  targetBlank?: boolean;
}

interface FieldOf<Custom> extends Omit<GrafanaFieldConfig, 'custom' | 'links'> {
  custom?: Partial<Custom>;
  links?: Link[];
}

type Properties = Array<{ id: string; value?: unknown }>;

interface PanelOf<Type extends string, Options, Custom> extends Omit<GrafanaPanel, 'type' | 'options' | 'fieldConfig' | 'targets' | 'datasource'> {
  type: Type;
  title: string;
  description: string;
  datasource: Source;
  targets: Query[];
  options: Options;
  fieldConfig: {
    defaults: FieldOf<Custom>;
    overrides: Array<{ matcher: { id: 'byName' | 'byRegexp'; options: string }; properties: Properties }>;
  };
}

type Nothing = Record<string, never>;

// By the type of the panel, as check.mjs asks for them.
export type Heatmap = PanelOf<'heatmap', heatmap.Options, heatmap.FieldConfig>;
export type Stat = PanelOf<'stat', stat.Options, Nothing>;
export type StateTimeline = PanelOf<'state-timeline', statetimeline.Options, statetimeline.FieldConfig>;
export type Table = PanelOf<'table', table.Options, table.FieldConfig>;
export type TimeSeries = PanelOf<'timeseries', timeseries.Options, timeseries.FieldConfig>;
export type Row = RowPanel;

export type HeatmapField = FieldOf<heatmap.FieldConfig>;
export type StatField = FieldOf<Nothing>;
export type StateTimelineField = FieldOf<statetimeline.FieldConfig>;
export type TableField = FieldOf<table.FieldConfig>;
export type TimeSeriesField = FieldOf<timeseries.FieldConfig>;

// The dashboard around them.
export interface Dashboard extends Omit<GrafanaDashboard, 'annotations' | 'panels' | 'templating'> {
  annotations: { list: Annotation[] };
  panels: Array<Record<string, unknown>>;
  templating: { list: Variable[] };
  schemaVersion: 42;
  title: string;
  uid: string;
}
