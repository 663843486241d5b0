import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { run } from '../../../src/kernel/process.ts';
import { alertRules, dashboardExpressions } from '../../lab/expressions.ts';
import { root } from '../../lab/files.ts';
import type { Lab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import { subnetKeys, withTwoNodes } from '../../lab/two-nodes.ts';
import { healthFlags, metrics } from '../agent/readiness.ts';
import { flannelLease } from '../overlay/state.ts';

const rules = join(root, 'dashboards/alerts.yaml');

/** Longer than any rule waits but that of versions. */
const HELD_MINUTES = 60;

/** Asks Prometheus' own tool, which may take minutes on a machine that has other things to do. */
const promtool = (...args: string[]) => run('promtool', args, { timeoutMs: 10 * 60_000 });

async function assertTaken(...args: string[]): Promise<void> {
  const { status, stdout, stderr } = await promtool(...args);
  assert.equal(status, 0, stdout + stderr);
}

/** The alerts that fire where metrics have stood like this for an hour, as Prometheus' own engine says. */
async function firing(directory: string, text: string): Promise<string[]> {
  const series = text
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#') && !/ (?:Nan|NaN|[+-]?Inf)$/.test(line))
    .map((line) => {
      const space = line.lastIndexOf(' ');
      const name = line.slice(0, space);
      const labelled = name.includes('{')
        ? name.replace('{', '{instance="node",')
        : `${name}{instance="node"}`;
      return { series: labelled, values: `${line.slice(space + 1)}x${HELD_MINUTES}` };
    });
  const alert_rule_test = alertRules().map(({ alert }) => ({
    alertname: alert,
    eval_time: `${HELD_MINUTES}m`,
    exp_alerts: [],
  }));
  const file = join(directory, 'scraped.test.yaml');
  const tests = [{ interval: '1m', input_series: series, alert_rule_test }];
  writeFileSync(file, JSON.stringify({ rule_files: [rules], evaluation_interval: '1m', tests }));
  const { stdout, stderr } = await promtool('test', 'rules', file);
  const said = stdout + stderr;
  assert.match(said, /SUCCESS|alertname:/, said);
  return Array.from(said.matchAll(/alertname: (\w+)/g), ([, alert]) => alert!).sort();
}

describe('alert rules and the dashboard', () => {
  it('are what Prometheus takes, and do in its tests what they say', async () => {
    await assertTaken('check', 'rules', rules);
    await assertTaken('test', 'rules', join(root, 'dashboards/alerts.test.yaml'));
  });

  describe('on nodes', () => {
    let lab: Lab;
    let one: LabNode;
    let two: LabNode;

    withTwoNodes({}, (made) => {
      ({ lab, one, two } = made);
    });

    it('the dashboard asks what Prometheus understands', async () => {
      const recorded = dashboardExpressions().map(({ expr }, index) => ({
        record: `asked:${index}`,
        expr: expr.replaceAll('$instance', '.*'),
      }));
      const file = join(one.dir, 'asked.yaml');
      writeFileSync(file, JSON.stringify({ groups: [{ name: 'asked', rules: recorded }] }));
      await assertTaken('check', 'rules', file);
    });

    it('none fires on nodes that do well, and of faults those that tell of them', async () => {
      await Promise.all([one.startAgent(healthFlags), two.startAgent()]);
      await one.startProxy(['--metrics-bind-address=127.0.0.1:9097']);
      const scraped = async (): Promise<string> => `${await metrics(one)}${await metrics(one, 9097)}`;
      await lab.waitFor('rules in sync', async () =>
        /^kubeproxy_sync_proxy_rules_last_timestamp_seconds.* \d/m.test(await scraped()),
      );
      await lab.waitFor('an agent that is ready', async () => /^twill_agent_ready 1$/m.test(await scraped()));
      assert.match(await scraped(), /^twill_build_info\{program="proxy",version="[^"]+",node="v/m);
      assert.deepEqual(await firing(one.dir, await scraped()), []);

      // Two nodes with one public IP, and a key that nobody can read.
      for (const third of [50, 51]) {
        const { key, value } = flannelLease(third, `02:00:00:00:00:${third}`, '192.0.2.50');
        await lab.etcd.put(key, value);
      }
      await lab.etcd.put(`${subnetKeys}10.244.52.0-24`, 'no lease');
      await lab.waitFor('both to be seen', async () => {
        const text = await metrics(one);
        return (
          /^twill_agent_lease_conflicts\{kind="public-ip"\} 1$/m.test(text) &&
          /^twill_agent_leases_malformed 1$/m.test(text)
        );
      });
      assert.deepEqual(await firing(one.dir, await scraped()), [
        'TwillLeasesConflict',
        'TwillNodesWithoutRoutes',
      ]);
      for (const third of [50, 51, 52]) await lab.etcd.delete(`${subnetKeys}10.244.${third}.0-24`);

      try {
        await lab.etcd.kill();
        await lab.waitFor('the loss to be seen', async () =>
          /^twill_agent_lease_source_connected 0$/m.test(await metrics(one)),
        );
        const lost = await firing(one.dir, await scraped());
        assert.ok(lost.includes('TwillLeaseSourceLost'), lost.join());
        assert.ok(!lost.includes('TwillAgentNotReady'), lost.join());

        // An agent that starts while there is no etcd has no pod network.
        await one.agent!.stop();
        await one.startAgent(healthFlags, false);
        await lab.waitFor('the new one to answer', async () =>
          /^twill_agent_ready 0$/m.test(await metrics(one)),
        );
        assert.ok((await firing(one.dir, await scraped())).includes('TwillAgentNotReady'));
      } finally {
        await lab.etcd.start();
      }
    });
  });
});
