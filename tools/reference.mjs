// Writes docs/reference.md from what --help and /metrics are made of: npm run build && node tools/reference.mjs. A test holds
// that the file is what this makes.
import { writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';

const root = dirname(import.meta.dirname);
const ours = (path) => import(join(root, 'build/src', path));

/** A cell must not end early. */
const cell = (text) => text.replaceAll('|', '\\|').replaceAll('\n', ' ');

function table(head, rows) {
  const line = (cells) => `| ${cells.map(cell).join(' | ')} |\n`;
  return line(head) + line(head.map(() => '---')) + rows.map(line).join('');
}

function flagTable(flags) {
  const rows = flags.map(({ name, standard, emptyMeans, help }) => {
    const value = standard === undefined ? '' : `\`${standard}\``;
    return [`\`--${name}\``, emptyMeans === undefined ? value : `${value} (empty: ${emptyMeans})`, help];
  });
  return table(['flag', 'default', 'meaning'], rows);
}

/** @param text as /metrics serves it */
function metricTable(text) {
  const kinds = new Map(
    Array.from(text.matchAll(/^# TYPE (\S+) (\S+)$/gm), ([, name, kind]) => [name, kind]),
  );
  const helps = new Map(Array.from(text.matchAll(/^# HELP (\S+) (.*)$/gm), ([, name, help]) => [name, help]));
  const rows = [...helps].map(([name, help]) => [`\`${name}\``, kinds.get(name) ?? '', help]);
  return table(
    ['metric', 'kind', 'meaning'],
    rows.sort(([a], [b]) => (a < b ? -1 : 1)),
  );
}

/** An agent that has just been started. */
async function agentMetricsText() {
  const { agentMetrics } = await ours('agent/metrics.js');
  const { addressLines, CallCounts } = await ours('pods/metrics.js');
  const source = {
    own: () => undefined,
    leaseSecondsLeft: () => undefined,
    leases: () => new Map(),
    status: () => ({ connected: false, malformed: new Map() }),
  };
  const notReady = { ready: false, reason: '' };
  const cni = {
    repairs: { pods: 0, rules: 0 },
    metrics: () => [...addressLines([], notReady), ...new CallCounts().lines()],
  };
  const rules = { current: { mode: 'iptables', reason: '' } };
  return (await agentMetrics({ source, conflicts: [], cni, rules }, [])).body;
}

const ofProcess = /^# (?:HELP|TYPE) (?:process|nodejs|twill_build)_.*\n/gm;

/** Of every mode: until one is chosen all are there. */
async function proxyMetricsText() {
  const { ProxyMetrics } = await ours('services/metrics.js');
  const metrics = new ProxyMetrics();
  metrics.countPackets(async () => undefined);
  return metrics.registry.metrics();
}

export async function reference() {
  const { agentFlags } = await ours('agent/flags.js');
  const { proxyFlags } = await ours('services/plan/flags.js');
  const agentText = await agentMetricsText();
  const idle = proxyFlags.filter((flag) => flag.idle !== undefined).map(({ name }) => `\`--${name}\``);
  return `# Reference

Made by \`node tools/reference.mjs\` from what \`--help\` and \`/metrics\` are made of.

## Flags of \`twill agent\`

Each can be set as \`TWILL_NAME\` or \`FLANNELD_NAME\` in the environment, \`--etcd-endpoints\` as \`TWILL_ETCD_ENDPOINTS\`.

${flagTable(agentFlags)}
## Flags of \`twill proxy\`

Each can be set as \`TWILL_NAME\` in the environment.

${flagTable(proxyFlags.filter((flag) => flag.idle === undefined))}
Accepted without effect: ${idle.join(', ')}.

## Metrics of the agent

${metricTable(agentText.replaceAll(ofProcess, ''))}
## Metrics of the proxy

Those with \`iptables\` or \`nftables\` in their names are there in that mode of \`--proxy-mode\` alone.

${metricTable(await proxyMetricsText())}
## Metrics of both

What they tell of their processes, with \`--metrics-bind-address\`.

${metricTable(agentText.match(ofProcess).join(''))}`;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href)
  writeFileSync(join(root, 'docs/reference.md'), await reference());
