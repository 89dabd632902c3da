// What a dashboard's JSON must be: Grafana's own types, with the panels and queries that we use.
import type { Dashboard, DataQuery } from '@grafana/schema';
import type {
  AnnotationQuery,
  FieldConfig,
  MatcherConfig,
  Panel,
  RowPanel,
} from '@grafana/schema/dist/esm/raw/dashboard/x/dashboard_types.gen';
import type * as stat from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as table from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type * as timeline from '@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen';
import type * as timeseries from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

// An enum's value, as JSON holds it, stands for its name.
type Json<T> = T extends string
  ? `${T}`
  : T extends (infer Item)[]
    ? Json<Item>[]
    : T extends object
      ? { [Key in keyof T]: Json<T[Key]> }
      : T;

// The Prometheus data source keeps these outside `@grafana/schema`
// (packages/grafana-prometheus/src/dataquery.ts and src/types.ts of Grafana 11).
interface PrometheusQuery extends DataQuery {
  editorMode?: 'code' | 'builder';
  expr: string;
  format?: 'time_series' | 'table' | 'heatmap';
  instant?: boolean;
  interval?: string;
  legendFormat?: string;
  range?: boolean;
}
interface PrometheusAnnotation extends Omit<AnnotationQuery, 'target'> {
  expr: string;
  step?: string;
  tagKeys?: string;
  textFormat?: string;
  titleFormat?: string;
  useValueForTime?: boolean;
}

interface Fields<Custom> {
  defaults: Omit<FieldConfig, 'custom'> & { custom?: Custom };
  overrides: { matcher: MatcherConfig; properties: { id: string; value?: unknown }[] }[];
}
interface Shown<Type extends string, Options, Custom>
  extends Omit<Panel, 'type' | 'options' | 'fieldConfig' | 'targets'> {
  fieldConfig: Fields<Custom>;
  options: Options;
  targets: PrometheusQuery[];
  type: Type;
}
type OurPanel =
  | Shown<'timeseries', Omit<timeseries.Options, 'timezone'>, timeseries.FieldConfig>
  | Shown<'state-timeline', timeline.Options, timeline.FieldConfig>
  | Shown<'stat', stat.Options, never>
  | Shown<'table', table.Options, table.FieldConfig>
  | (Omit<RowPanel, 'panels'> & { panels: never[] });

interface OurDashboard extends Omit<Dashboard, 'annotations' | 'panels'> {
  annotations: { list: PrometheusAnnotation[] };
  panels: OurPanel[];
}

export type JsonDashboard = Json<OurDashboard>;
export type JsonPanel = Json<OurPanel>;
