// The demo: a cluster on this machine, what it is to do, and whether it does it.
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { formatTable } from '../../src/inspect/table.ts';
import { describeError } from '../../src/model/error.ts';
import { checks } from './checks.ts';
import { cleanUp } from './cleanup.ts';
import { listKept } from './guard.ts';
import { Lab } from './lab.ts';
import type { LabNode } from './node.ts';
import { playScenario, type Scenario } from './scenario.ts';

const usage = `npm run demo [-- OPTIONS]

Starts etcd and a cluster of three nodes with six pods in network namespaces of this machine, sends traffic every way
through it, prints what held, and removes all of it.

  --keep        leave the cluster standing and say how to look around
  --remove      remove the clusters that were left standing
  --json FILE   write the checks as [{"name": …, "ok": …, "detail": …}]
  --help        this text
`;

interface Outcome {
  readonly name: string;
  readonly ok: boolean;
  readonly detail: string;
}

const started = Date.now();

function progress(line: string): void {
  const seconds = ((Date.now() - started) / 1000).toFixed(1).padStart(5);
  process.stderr.write(`${seconds} s  ${line}\n`);
}

async function runChecks(scenario: Scenario): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  for (const { name, run } of checks) {
    progress(`checking: ${name}`);
    try {
      outcomes.push({ name, ok: true, detail: await run(scenario) });
    } catch (error) {
      const detail = describeError(error);
      outcomes.push({ name, ok: false, detail: detail.split('\n')[0]! });
      process.stderr.write(`${detail}\n`);
    }
  }
  return outcomes;
}

function table(outcomes: readonly Outcome[]): string {
  const rows = outcomes.map(({ name, ok, detail }) => [name, ok ? 'ok' : 'FAILED', detail]);
  return formatTable(['check', 'result', 'detail'], rows);
}

function explainKept(lab: Lab): string {
  const [node] = lab.nodes as [LabNode];
  const pod = node.pods[0];
  return `
The cluster stands. Its files (logs, manifests, subnet files) are in ${lab.dir}. Look around:

  ip netns                                                  all namespaces
  ip netns exec ${node.namespace.name} ip route                   a node's routes
  ip netns exec ${node.namespace.name} iptables-save -t nat       its Service rules
  ip netns exec ${pod?.namespace.name ?? node.namespace.name} ip address           a pod's addresses
  tail -f ${lab.dir}/node1/agent.log
  $EDITOR ${lab.manifests}/web.yaml           change a Service and see the rules follow

Remove it:

  npm run demo -- --remove
`;
}

async function prepare(lab: Lab): Promise<Outcome[]> {
  try {
    return await runChecks(await playScenario(lab, ['ipv4'], progress));
  } catch (error) {
    process.stderr.write(`${describeError(error)}\n`);
    return [{ name: 'the cluster starts', ok: false, detail: describeError(error).split('\n')[0]! }];
  }
}

async function demo(options: { keep: boolean; json: string | undefined }): Promise<void> {
  progress('building three nodes, an outside client and a real etcd out of network namespaces');
  const lab = await Lab.start({ nodes: 3 });
  try {
    const outcomes = await prepare(lab);
    const state = await lab.nodes[0]!.look();
    process.stdout.write(`\n${state}\n${table(outcomes)}`);
    if (options.json !== undefined)
      writeFileSync(options.json, `${JSON.stringify(outcomes, undefined, 2)}\n`);
    const failed = outcomes.filter(({ ok }) => !ok).length;
    process.stdout.write(
      failed === 0
        ? `\nall ${outcomes.length} checks held\n`
        : `\n${failed} of ${outcomes.length} checks FAILED\n`,
    );
    process.exitCode = failed === 0 ? 0 : 1;
    if (options.keep) process.stdout.write(explainKept(lab));
  } finally {
    if (options.keep) {
      await lab.keep();
      process.exit(); // what was started goes on running, and would be waited for
    } else {
      progress('removing everything');
      await lab.stop();
      progress('done');
    }
  }
}

async function removeKept(): Promise<void> {
  const kept = listKept();
  for (const id of kept) await cleanUp(id);
  process.stdout.write(kept.length === 0 ? 'nothing to remove\n' : `removed ${kept.join(', ')}\n`);
}

try {
  const { values } = parseArgs({
    options: {
      keep: { type: 'boolean', default: false },
      remove: { type: 'boolean', default: false },
      json: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) process.stdout.write(usage);
  else if (values.remove) await removeKept();
  else await demo({ keep: values.keep, json: values.json });
} catch (error) {
  process.stderr.write(`${describeError(error)}\n`);
  process.exitCode = 1;
}
