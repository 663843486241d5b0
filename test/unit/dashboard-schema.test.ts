import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { root } from '../lab/files.ts';

// What Grafana takes: its dashboard schema (kinds/dashboard), panel plugins, units (valueFormats/categories) and migrations.

interface Reference {
  readonly type?: string;
  readonly uid?: string;
}

interface Target {
  readonly refId: string;
  readonly expr: string;
  readonly datasource?: Reference;
  readonly instant?: boolean;
  readonly range?: boolean;
}

interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly collapsed?: boolean;
  readonly panels?: readonly Panel[];
  readonly datasource?: Reference;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly fieldConfig?: {
    readonly defaults: {
      readonly unit: string;
      readonly thresholds?: {
        readonly mode: string;
        readonly steps: readonly { readonly color: string; readonly value: number | null }[];
      };
    };
    readonly overrides: readonly unknown[];
  };
  readonly options?: { readonly reduceOptions?: { readonly calcs: readonly string[] } };
  readonly targets?: readonly Target[];
}

interface Variable {
  readonly name: string;
  readonly type: string;
  readonly query: string | { readonly query: string; readonly refId: string };
  readonly datasource?: Reference;
  readonly refresh?: number;
  readonly hide?: number;
}

interface Dashboard {
  readonly uid: string;
  readonly title: string;
  readonly schemaVersion: number;
  readonly refresh: string;
  readonly timezone: string;
  readonly time: { readonly from: string; readonly to: string };
  readonly templating: { readonly list: readonly Variable[] };
  readonly panels: readonly Panel[];
}

const dashboard = JSON.parse(readFileSync(join(root, 'dashboards/twill.json'), 'utf8')) as Dashboard;
const panels = dashboard.panels.flatMap((panel) => [panel, ...(panel.panels ?? [])]);
const drawn = panels.filter(({ type }) => type !== 'row');

const panelTypes = ['row', 'stat', 'timeseries'];
const units = ['none', 'short', 'percentunit', 's', 'bytes', 'reqps'];
const variableTypes = ['query', 'datasource'];
/** What is asked: the data source that the variable of that name has. */
const isChosen = (source: Reference | undefined): boolean =>
  source?.type === 'prometheus' && /^\$\{datasource\}$/.test(source.uid ?? '');
const isWhole = (value: number, least: number, most = 1e6): boolean =>
  Number.isInteger(value) && value >= least && value <= most;

/** Of pairs of panels those that lie on each other. */
function overlaps(): string[] {
  return panels.flatMap((a, index) =>
    panels.slice(index + 1).flatMap((b) => {
      const [one, other] = [a.gridPos, b.gridPos];
      const across = one.x < other.x + other.w && other.x < one.x + one.w;
      const down = one.y < other.y + other.h && other.y < one.y + one.h;
      return across && down ? [`${a.title} and ${b.title}`] : [];
    }),
  );
}

/** Names of variables that expressions use: `$name`, `${name}`; those that begin with __ are Grafana's own. */
const used = (text: string): string[] =>
  Array.from(text.matchAll(/\$\{?(\w+)/g), ([, name]) => name!).filter((name) => !name.startsWith('__'));

/** Each fact, and what of the dashboard is against it. */
const facts: readonly (readonly [fact: string, against: () => readonly unknown[]])[] = [
  [
    'references to data sources are objects since schema 36; 42 is the last one known',
    () => (isWhole(dashboard.schemaVersion, 36, 42) ? [] : [dashboard.schemaVersion]),
  ],
  [
    'its name in URLs has 8 to 40 letters, digits, - and _',
    () => (/^[\w-]{8,40}$/.test(dashboard.uid) ? [] : [dashboard.uid]),
  ],
  [
    'times are relative ones, and it is refreshed by a span of time',
    () =>
      [dashboard.time.from, dashboard.time.to, `now-${dashboard.refresh}`].filter(
        (text) => !/^now(?:-\d+[smhd])?$/.test(text),
      ),
  ],
  [
    'the time zone is a name or browser',
    () => (dashboard.timezone === 'browser' ? [] : [dashboard.timezone]),
  ],
  [
    'panels have numbers of their own',
    () =>
      panels.filter(({ id }, index) => !isWhole(id, 1) || panels.findIndex((one) => one.id === id) !== index),
  ],
  ['panels are of types that there are', () => panels.filter(({ type }) => !panelTypes.includes(type))],
  ['panels have titles', () => panels.filter(({ title }) => title === '')],
  [
    'the grid has 24 columns',
    () =>
      panels.filter(
        ({ gridPos: { x, y, w, h } }) =>
          !isWhole(x, 0, 23) || !isWhole(y, 0) || !isWhole(w, 1, 24 - x) || !isWhole(h, 1),
      ),
  ],
  ['no panel lies on another', overlaps],
  [
    'an open row is a line of its own, and what is below it is beside it in the list',
    () =>
      dashboard.panels.filter(
        ({ type, collapsed, panels: own, gridPos: { x, w, h } }) =>
          type === 'row' && (collapsed !== false || own?.length !== 0 || x !== 0 || w !== 24 || h !== 1),
      ),
  ],
  [
    'the list is in the order in which panels are shown: a row has what follows it',
    () =>
      panels.filter(({ gridPos: { x, y } }, index) => {
        const before = panels[index - 1]?.gridPos;
        return before !== undefined && (y < before.y || (y === before.y && x < before.x));
      }),
  ],
  [
    'fields have a unit that there is, and overrides are a list',
    () =>
      drawn.filter(
        ({ fieldConfig }) =>
          !units.includes(fieldConfig?.defaults.unit ?? '') || !Array.isArray(fieldConfig?.overrides),
      ),
  ],
  [
    'an MTU is shown as people write it: 1450, not 1.42 KiB',
    () =>
      drawn.filter(
        ({ fieldConfig, targets = [] }) =>
          targets.some(({ expr }) => expr.includes('_mtu_bytes')) && fieldConfig?.defaults.unit !== 'none',
      ),
  ],
  [
    'where a stat says nothing of thresholds, 80 and more are red: it says, from the lowest on, which has no value',
    () =>
      drawn.filter(({ type, fieldConfig }) => {
        const { mode, steps = [] } = fieldConfig?.defaults.thresholds ?? {};
        if (steps.length === 0) return type === 'stat';
        const [first, ...more] = steps.map(({ value }) => value);
        const rises = more.every((value, index) => value !== null && value > (more[index - 1] ?? -Infinity));
        return mode !== 'absolute' || first !== null || !rises;
      }),
  ],
  [
    'a stat says which of its values it shows: what that is by itself has changed between versions',
    () =>
      drawn.filter(
        ({ type, options }) => type === 'stat' && options?.reduceOptions?.calcs.join() !== 'lastNotNull',
      ),
  ],
  [
    'a stat by version asks for now alone: what has been replaced would be shown as long as the dashboard looks back',
    () =>
      drawn.filter(
        ({ type, targets = [] }) =>
          type === 'stat' &&
          targets.some(
            ({ expr, instant, range }) =>
              expr.includes('by (version)') && (instant !== true || range !== false),
          ),
      ),
  ],
  [
    'a panel has queries, each with a letter of its own',
    () =>
      drawn.filter(({ targets = [] }) => {
        const letters = targets.map(({ refId }) => refId);
        return letters.length === 0 || new Set(letters).size !== letters.length || letters.includes('');
      }),
  ],
  [
    'panels and queries are asked of the data source that is chosen above',
    () =>
      drawn.filter(({ datasource, targets = [] }) =>
        [datasource, ...targets.map((one) => one.datasource)].some((one) => !isChosen(one)),
      ),
  ],
  [
    'variables are of types that there are, shown with their names, and filled when the dashboard is loaded',
    () =>
      dashboard.templating.list.filter(
        ({ type, hide = 0, refresh }) =>
          !variableTypes.includes(type) || hide !== 0 || (type === 'query' && refresh !== 1 && refresh !== 2),
      ),
  ],
  [
    'a variable of data sources names the plugin, one of values has a query with a name, of the source that is chosen',
    () =>
      dashboard.templating.list.filter(({ type, query, datasource }) => {
        if (type === 'datasource') return query !== 'prometheus';
        if (typeof query === 'string' || query.refId === '' || !isChosen(datasource)) return true;
        return !/^label_values\(\w+, \w+\)$/.test(query.query);
      }),
  ],
  [
    'each variable that is used stands above what uses it, and each is used',
    () => {
      const names = dashboard.templating.list.map(({ name }) => name);
      const early = dashboard.templating.list.flatMap((one, index) =>
        used(JSON.stringify(one)).filter((name) => !names.slice(0, index).includes(name)),
      );
      const all = [...used(JSON.stringify(panels)), ...used(JSON.stringify(dashboard.templating))];
      return [
        ...early.filter((name) => name !== ''),
        ...all.filter((name) => !names.includes(name)),
        ...names.filter((name) => !all.includes(name)),
      ];
    },
  ],
];

describe('the dashboard is what Grafana takes', () => {
  for (const [fact, against] of facts)
    it(fact, () => {
      assert.deepEqual(against(), []);
    });
});
