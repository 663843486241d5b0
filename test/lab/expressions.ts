import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { root } from './files.ts';

/** A rule of dashboards/alerts.yaml. */
export interface AlertRule {
  readonly alert: string;
  readonly expr: string;
  readonly for?: string;
}

interface Panel {
  readonly title: string;
  readonly targets?: readonly { readonly expr: string }[];
}

const read = (name: string): string => readFileSync(join(root, 'dashboards', name), 'utf8');

export function alertRules(): AlertRule[] {
  const { groups } = parse(read('alerts.yaml')) as { groups: readonly { rules: readonly AlertRule[] }[] };
  return groups.flatMap(({ rules }) => rules);
}

/** What the dashboard's panels ask Prometheus, by their titles. */
export function dashboardExpressions(): { readonly title: string; readonly expr: string }[] {
  const { panels } = JSON.parse(read('twill.json')) as { panels: readonly Panel[] };
  return panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }) => ({ title, expr })));
}
