import assert from 'node:assert/strict';
import { once } from 'node:events';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { RunResult } from '../../../src/kernel/process.ts';
import { twillProgram } from '../../lab/files.ts';
import { type Namespace, withNamespace } from '../../lab/namespace.ts';
import { waitFor } from '../../lab/wait.ts';

interface Node {
  readonly namespace: Namespace;
  /** Below it are the node's files. */
  readonly root: string;
  /** @param wrapper a program with its arguments that runs it */
  cleanup(args?: readonly string[], wrapper?: readonly string[]): Promise<RunResult>;
}

const withNode = (work: (node: Node) => Promise<void>): Promise<void> =>
  withNamespace('beside', async (namespace) => {
    const root = mkdtempSync(join(tmpdir(), 'twill-beside-'));
    for (const folder of ['bin', 'conf', 'state', 'flannel']) mkdirSync(join(root, folder));
    const places = [
      `--state-dir=${root}/state`,
      `--cni-socket=${root}/state/cni.sock`,
      `--proxy-socket=${root}/state/proxy.sock`,
      `--subnet-file=${root}/flannel/subnet.env`,
      `--cni-bin-dir=${root}/bin`,
      `--cni-conf-dir=${root}/conf`,
    ];
    try {
      await work({
        namespace,
        root,
        cleanup: (args = [], wrapper = []) => {
          const [program, ...rest] = [...wrapper, twillProgram, 'cleanup', ...places, ...args];
          return namespace.run(program!, rest);
        },
      });
    } finally {
      rmSync(root, { recursive: true });
    }
  });

/** What an agent that has ended leaves in its directory. */
function agentWasThere({ root }: Node): void {
  mkdirSync(join(root, 'state/pods'));
}

/** Another program by this name, as far as the node can tell. */
async function start({ namespace, root }: Node, name: string): Promise<void> {
  const program = join(root, name);
  copyFileSync('/bin/sleep', program);
  const { pid } = namespace.spawn(program, ['1000'], { stdio: 'ignore' });
  await waitFor('it to run', () => readFileSync(`/proc/${pid}/comm`, 'utf8').trim() === name);
}

const clean = ({ status, stdout, stderr }: RunResult): string => {
  assert.equal(status, 0, stdout + stderr);
  return stdout;
};

/** flannel's device, bridge, chains, table and file, without pods. */
async function makeFlannel({ namespace, root }: Node): Promise<void> {
  await namespace.ip(
    'link add flannel.1 type vxlan id 1 dstport 8472 nolearning',
    'link add cni0 type bridge',
  );
  const chains = ['*nat', ':FLANNEL-POSTRTG - [0:0]', '-A POSTROUTING -j FLANNEL-POSTRTG', 'COMMIT', ''];
  await namespace.exec('iptables-nft-restore', ['--noflush'], { input: chains.join('\n') });
  await namespace.exec('nft', ['add', 'table', 'ip6', 'flannel-ipv6']);
  writeFileSync(join(root, 'flannel/subnet.env'), 'FLANNEL_SUBNET=10.244.7.1/24\n');
}

async function flannelsThings({ namespace, root }: Node): Promise<string[]> {
  const links = await namespace.exec('ip', ['link']);
  const rules = await namespace.exec('nft', ['list', 'ruleset']);
  const names =
    `${links}${rules}`.match(/flannel\.1|cni0|chain FLANNEL-POSTRTG|table ip6 flannel-ipv6/g) ?? [];
  const folder = join(root, 'flannel');
  const files = existsSync(folder) ? readdirSync(folder) : [];
  return [...new Set(names), ...files].sort();
}

const allOfFlannel = ['chain FLANNEL-POSTRTG', 'cni0', 'flannel.1', 'subnet.env', 'table ip6 flannel-ipv6'];

test('on a node that Twill was never on a flannel keeps what it has, each named; --force takes it', () =>
  withNode(async (node) => {
    await makeFlannel(node);
    const said = clean(await node.cleanup());
    assert.deepEqual(await flannelsThings(node), allOfFlannel);
    for (const name of [
      'device flannel.1',
      'bridge cni0',
      'chain FLANNEL-POSTRTG',
      'ip6 flannel-ipv6',
      'subnet.env',
    ])
      assert.match(said, new RegExp(`^.*${name}: left, for nothing of Twill's is in `, 'm'));
    clean(await node.cleanup(['--force']));
    assert.deepEqual(await flannelsThings(node), []);
  }));

test('after an agent, or where the executable is, they are ours', () =>
  withNode(async (node) => {
    await makeFlannel(node);
    writeFileSync(join(node.root, 'bin/twill'), '');
    clean(await node.cleanup());
    assert.deepEqual(await flannelsThings(node), []);
    assert.deepEqual(readdirSync(join(node.root, 'bin')), []);
  }));

test('while a flanneld runs it refuses, and a dry run says both that and what it would do', () =>
  withNode(async (node) => {
    agentWasThere(node);
    await makeFlannel(node);
    await start(node, 'flanneld');
    const refused = await node.cleanup();
    assert.equal(refused.status, 1);
    assert.match(refused.stderr, /nothing was changed, for flanneld \(process \d+\) runs/);
    const dry = clean(await node.cleanup(['--dry-run']));
    assert.match(dry, /^would refuse now, for flanneld \(process \d+\) runs/m);
    assert.match(dry, /^would do: device flannel\.1: removed/m);
    assert.deepEqual(await flannelsThings(node), allOfFlannel);
    assert.ok(existsSync(join(node.root, 'state/pods')));
  }));

test('a kube-proxy that runs beside keeps the chains of Services, and the rest goes', () =>
  withNode(async (node) => {
    agentWasThere(node);
    await makeFlannel(node);
    await node.namespace.exec('iptables-nft', ['-t', 'nat', '-N', 'KUBE-SERVICES']);
    await node.namespace.exec('nft', ['add', 'table', 'ip', 'twill-services']);
    await start(node, 'kube-proxy');
    const said = clean(await node.cleanup());
    assert.match(said, /^chains of Services in iptables: left, for kube-proxy \(process \d+\) runs$/m);
    const rules = await node.namespace.exec('nft', ['list', 'ruleset']);
    assert.match(rules, /KUBE-SERVICES/);
    assert.doesNotMatch(rules, /twill-services|FLANNEL/);
  }));

for (const [socket, who] of [
  ['cni.sock', 'the agent'],
  ['proxy.sock', "a proxy of Twill's"],
] as const)
  test(`while ${who} listens it refuses, whatever it answers`, () =>
    withNode(async (node) => {
      const path = join(node.root, 'state', socket);
      const server = createServer(() => {}).listen(path);
      await once(server, 'listening');
      try {
        const { status, stderr } = await node.cleanup();
        assert.equal(status, 1);
        assert.match(stderr, new RegExp(`nothing was changed, for ${who} runs \\(it listens on ${path}\\)`));
      } finally {
        server.close();
      }
    }));

const withoutRaw = ['setpriv', '--bounding-set=-net_raw', '--inh-caps=-net_raw'];

test('without CAP_NET_RAW iptables-legacy, where it has tables, is named, all else goes, and it is known to be done again', () =>
  withNode(async (node) => {
    agentWasThere(node);
    await makeFlannel(node);
    await node.namespace.exec('iptables-legacy', ['-t', 'nat', '-N', 'KUBE-SERVICES']);
    const { status, stdout, stderr } = await node.cleanup([], withoutRaw);
    assert.equal(status, 1, stdout);
    for (const what of ['chains of the proxy', 'chains of host ports', 'chains for the traffic of pods'])
      assert.match(
        stderr,
        new RegExp(`iptables-legacy: ${what} removed, if there are any: .*Permission denied`),
      );
    assert.doesNotMatch(stderr, /ip6tables-legacy/);
    assert.deepEqual(await flannelsThings(node), []);
    assert.match(stdout, /state\/pods: removed when the rest is done$/m);
    clean(await node.cleanup());
    assert.doesNotMatch(await node.namespace.exec('iptables-legacy-save', []), /KUBE-SERVICES/);
    assert.ok(!existsSync(join(node.root, 'state')));
  }));

test('without CAP_NET_RAW a node on which nobody has used iptables-legacy is clean, and stays without its tables', () =>
  withNode(async (node) => {
    agentWasThere(node);
    clean(await node.cleanup([], withoutRaw));
    mkdirSync(join(node.root, 'state/pods'), { recursive: true });
    clean(await node.cleanup());
    const names = await node.namespace.run('cat', ['/proc/net/ip_tables_names']);
    assert.equal(names.stdout, '');
  }));

test('of what iptables-nft made only what holds nothing goes: a kubelet’s chains stay as they were', () =>
  withNode(async (node) => {
    const restore = (...lines: string[]): Promise<string> =>
      node.namespace.exec('iptables-nft-restore', ['--noflush'], { input: `${lines.join('\n')}\n` });
    await restore(
      ...[
        '*mangle',
        ':KUBE-KUBELET-CANARY - [0:0]',
        'COMMIT',
        '*nat',
        ':KUBE-KUBELET-CANARY - [0:0]',
        'COMMIT',
      ],
      ...['*filter', ':KUBE-FIREWALL - [0:0]', '-A OUTPUT -j KUBE-FIREWALL', 'COMMIT'],
    );
    const before = await node.namespace.exec('nft', ['list', 'ruleset']);
    agentWasThere(node);
    await restore(
      ...['*nat', ':FLANNEL-POSTRTG - [0:0]', ':KUBE-SERVICES - [0:0]', '-A PREROUTING -j KUBE-SERVICES'],
      ...['-A POSTROUTING -j FLANNEL-POSTRTG', 'COMMIT', '*filter', ':FLANNEL-FWD - [0:0]'],
      ...['-A FORWARD -j FLANNEL-FWD', 'COMMIT'],
    );
    assert.match(clean(await node.cleanup()), /hold nothing any more: .*ip nat POSTROUTING/);
    assert.equal(await node.namespace.exec('nft', ['list', 'ruleset']), before);
  }));

test('configurations that were set aside: one comes back, one that is there twice is there once, one written anew stays', () =>
  withNode(async (node) => {
    const conf = (name: string): string => join(node.root, 'conf', name);
    const aside = (name: string): string => `${conf(name)}.set-aside-by-twill`;
    writeFileSync(aside('05-gone.conf'), 'gone');
    for (const path of [conf('06-same.conf'), aside('06-same.conf')]) writeFileSync(path, 'same');
    writeFileSync(aside('07-anew.conf'), 'old');
    writeFileSync(conf('07-anew.conf'), 'new');
    writeFileSync(conf('08-chained.conflist'), '{"plugins":[{"type":"bridge"},{"type":"twill"}]}');
    writeFileSync(conf('10-twill.conflist'), '{"plugins":[{"type":"twill"}]}');
    writeFileSync(conf('.10-twill.conflist.0123456789abcdef.new'), 'half');
    const dry = clean(await node.cleanup(['--dry-run']));
    assert.equal(readdirSync(join(node.root, 'conf')).length, 8);
    const said = clean(await node.cleanup());
    for (const text of [dry.replaceAll('would do: ', ''), said]) {
      assert.match(text, /05-gone\.conf: put back$/m);
      assert.match(text, /06-same\.conf: put back$/m);
      assert.match(
        text,
        /07-anew\.conf: left as somebody has written it anew; what was set aside stays as /m,
      );
      assert.match(text, /10-twill\.conflist: removed$/m);
      assert.doesNotMatch(text, /08-chained/);
    }
    const left = [
      '05-gone.conf',
      '06-same.conf',
      '07-anew.conf',
      '07-anew.conf.set-aside-by-twill',
      '08-chained.conflist',
    ];
    assert.deepEqual(readdirSync(join(node.root, 'conf')).sort(), left);
    assert.equal(readFileSync(conf('07-anew.conf'), 'utf8'), 'new');
  }));

test('what was written half goes, what of settings cannot be read is named, and what is not ours stays', () =>
  withNode(async (node) => {
    agentWasThere(node);
    const state = join(node.root, 'state');
    writeFileSync(join(state, 'agent-settings.json'), '{"version":1,"changed":{"net/ipv4/ip_forward":7}}');
    writeFileSync(join(state, '.agent-state.json.0123456789abcdef.new'), 'half');
    writeFileSync(join(state, 'notes'), 'of somebody');
    const said = clean(await node.cleanup());
    assert.match(
      said,
      /sysctls: left as they are, for what Twill changed cannot be read from .*agent-settings\.json/,
    );
    assert.match(said, /state: left, for notes in it$/m);
    assert.deepEqual(readdirSync(state), ['notes']);
  }));

test('files that cannot be removed are named, and everything else goes', () =>
  withNode(async (node) => {
    agentWasThere(node);
    await makeFlannel(node);
    const script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"';
    const readOnly = ['unshare', '--mount', 'sh', '-c', script, join(node.root, 'flannel')];
    const { status, stderr } = await node.cleanup([], readOnly);
    assert.equal(status, 1);
    assert.match(stderr, /not done: .*subnet\.env: removed: .*EROFS/);
    assert.deepEqual(await flannelsThings(node), ['subnet.env']);
    clean(await node.cleanup());
    assert.deepEqual(await flannelsThings(node), []);
  }));
