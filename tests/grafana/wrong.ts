// What the types must refuse: were one of these accepted, tsc would say that the comment is unused.
import type { JsonDashboard, JsonPanel } from './schema';

const good = {
  title: 'x',
  targets: [],
  fieldConfig: { defaults: {}, overrides: [] },
  options: { cellHeight: 'sm' as const, frameIndex: 0, showHeader: true },
  type: 'table' as const,
};
export const right: JsonPanel = good;

// @ts-expect-error no panel of this type is ours
export const kind: JsonPanel = { ...good, type: 'tabel' };
// @ts-expect-error not one of the enum's values
export const height: JsonPanel = { ...good, options: { ...good.options, cellHeight: 'small' } };
// @ts-expect-error a required option is missing
export const option: JsonPanel = { ...good, options: { cellHeight: 'sm' } };
// @ts-expect-error a query needs an expression
export const query: JsonPanel = { ...good, targets: [{ refId: 'A' }] };
// @ts-expect-error a unit is a text
export const unit: JsonPanel = { ...good, fieldConfig: { defaults: { unit: 5 }, overrides: [] } };
// @ts-expect-error no such key
export const key: JsonPanel = { ...good, titel: 'x' };

const board = { schemaVersion: 41, panels: [], annotations: { list: [] } };
export const empty: JsonDashboard = board;
// @ts-expect-error an annotation needs a name and a colour
export const event: JsonDashboard = { ...board, annotations: { list: [{ expr: 'x' }] } };
// @ts-expect-error 3 is no way to share the tooltip
export const tooltip: JsonDashboard = { ...board, graphTooltip: 3 };
