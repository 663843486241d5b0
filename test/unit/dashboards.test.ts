import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { type Conclusion, conclusions } from '../../src/mesh/plan/conclusion.ts';
import { alertRules, dashboardExpressions } from '../lab/expressions.ts';
import { root } from '../lab/files.ts';

/** Names of metrics by their kind: docs/reference.md is held to be what /metrics serves. */
const documented = new Map(
  Array.from(
    readFileSync(join(root, 'docs/reference.md'), 'utf8').matchAll(/^\| `([a-z_0-9]+)` \| (\w+) \|/gm),
    ([, name, kind]) => [name!, kind!],
  ),
);

/** What an expression asks for, as Prometheus has it: histograms are three series each. */
function unknownNames(expr: string): string[] {
  const names = expr.match(/\b(?:twill|kubeproxy|rest_client|process|nodejs|kubernetes)_\w+/g) ?? [];
  assert.ok(names.length > 0, expr);
  return names.filter((name) => {
    if (documented.has(name)) return documented.get(name) === 'histogram';
    return documented.get(name.replace(/_(?:bucket|sum|count)$/, '')) !== 'histogram';
  });
}

test('alert rules name only metrics that there are', () => {
  for (const { alert, expr } of alertRules()) assert.deepEqual(unknownNames(expr), [], alert);
});

test('the dashboard names only metrics that there are', () => {
  for (const { title, expr } of dashboardExpressions()) assert.deepEqual(unknownNames(expr), [], title);
});

test('conclusions of the mesh that are asked for are those that there are', () => {
  const asked = [...alertRules(), ...dashboardExpressions()].flatMap(({ expr }) =>
    Array.from(expr.matchAll(/conclusion[!=]~?"([^"]+)"/g), ([, names]) => names!.split('|')),
  );
  assert.ok(asked.length > 1);
  for (const name of asked.flat()) assert.ok(conclusions.includes(name as Conclusion), name);
});

test('each alert has a case in which it fires', () => {
  const cases = readFileSync(join(root, 'dashboards/alerts.test.yaml'), 'utf8');
  const missing = alertRules().filter(({ alert }) => !cases.includes(alert));
  assert.deepEqual(missing, []);
});
