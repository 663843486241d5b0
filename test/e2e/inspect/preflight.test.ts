import assert from 'node:assert/strict';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { PreflightAnswer } from '../../../src/inspect/plan/preflight.ts';
import { runChecked } from '../../../src/kernel/process.ts';
import { twillProgram } from '../../lab/files.ts';
import { Lab } from '../../lab/lab.ts';
import { type Namespace, withNamespace } from '../../lab/namespace.ts';
import type { LabNode } from '../../lab/node.ts';

describe('twill preflight', () => {
  let lab: Lab;
  let one: LabNode;
  let two: LabNode;

  const look = async (args: readonly string[] = [], env: NodeJS.ProcessEnv = {}) => {
    const { status, stdout, stderr } = await one.namespace.run(
      process.execPath,
      [
        twillProgram,
        'preflight',
        '-o',
        'json',
        `--socket=${one.cniSocket}`,
        `--cni-conf-dir=${join(one.dir, 'net.d')}`,
        ...args,
      ],
      { env: { ...process.env, ...env } },
    );
    assert.equal(stderr, '');
    return { status, answer: JSON.parse(stdout) as PreflightAnswer };
  };

  const stateOf = ({ checks }: PreflightAnswer, name: string): string => {
    const found = checks.find((check) => check.name === name);
    return `${found?.state}: ${found?.detail}`;
  };

  before(async () => {
    lab = await Lab.start({ nodes: 2 });
    [one, two] = lab.nodes as [LabNode, LabNode];
    mkdirSync(join(one.dir, 'net.d'));
  });
  after(() => lab.stop());

  it('finds a node fit before anything is installed, with the path to another one', async () => {
    const { status, answer } = await look(['--peer=192.0.2.12', '--network=10.244.0.0/16']);
    assert.equal(answer.version, 1);
    assert.equal(answer.failed, 0, JSON.stringify(answer));
    assert.equal(status, 0);
    for (const name of ['VXLAN', 'bridge', 'veth', 'nexthop objects', 'iptables-nft', 'capabilities'])
      assert.match(stateOf(answer, name), /^ok: /, name);
    assert.equal(stateOf(answer, 'path to 192.0.2.12'), 'ok: carries 1500 bytes by eth0');
    assert.match(stateOf(answer, 'pod network 10.244.0.0/16'), /^ok: overlaps no network/);
    assert.equal((await one.exec('ip', ['-o', 'link'])).trim().split('\n').length, 2);
  });

  it('names a path that does not carry what the interface takes, a network that is in use, a node that does not answer', async () => {
    await two.setMtu(1400);
    const { status, answer } = await look([
      '--peer=192.0.2.12',
      '--peer=192.0.2.200',
      '--network=192.0.0.0/16',
    ]);
    await two.setMtu(1500);
    assert.equal(status, 1);
    assert.match(stateOf(answer, 'path to 192.0.2.12'), /^failed: packets of 1500 bytes.* do not get there/);
    assert.equal(stateOf(answer, 'path to 192.0.2.200'), 'warning: no answer to a ping');
    assert.match(stateOf(answer, 'pod network 192.0.0.0/16'), /^warning: overlaps 192\.0\.2\.11\/24 of eth0/);
  });

  it('names what is not installed, another network’s configuration, and another network', async () => {
    const bin = join(one.dir, 'bin');
    mkdirSync(bin);
    for (const program of ['sh', 'ip', 'unshare', 'ping']) {
      const path = (await runChecked('sh', ['-c', `command -v ${program}`])).trim();
      symlinkSync(path, join(bin, program));
    }
    writeFileSync(join(one.dir, 'net.d/05-other.conflist'), '{"name":"other"}');
    writeFileSync(join(one.dir, 'net.d/10-twill.conflist'), '{"name":"twill"}');
    const { status, answer } = await look([], { PATH: bin });
    assert.equal(status, 1);
    assert.equal(stateOf(answer, 'iptables'), 'failed: neither variant of iptables works');
    assert.equal(stateOf(answer, 'nft'), 'warning: is not there');
    assert.match(stateOf(answer, 'CNI configuration'), /^failed: the runtime uses 05-other\.conflist/);
    assert.match(stateOf(answer, 'other nodes'), /^warning: none is known yet/);
  });

  it('finds the VXLAN port of another node closed', async () => {
    await Promise.all([one.startAgent(), two.startAgent()]);
    await lab.waitFor('the tunnel', async () =>
      /^ok: its VTEP /.test(stateOf((await look()).answer, 'VXLAN to 192.0.2.12')),
    );
    await two.exec('iptables-nft', ['-I', 'INPUT', '-p', 'udp', '--dport', '8472', '-j', 'DROP']);
    const { status, answer } = await look();
    assert.equal(status, 1);
    assert.match(stateOf(answer, 'VXLAN to 192.0.2.12'), /^failed: its VTEP \S+ does not answer/);
    assert.match(stateOf(answer, 'path to 192.0.2.12'), /^ok: /);
  });
});

/** Rules of others, of which there are more in the other variant. */
const rules = (program: string, count: number): string[] =>
  Array.from({ length: count }, (_, index) => `${program} -A INPUT -s 198.51.100.${index} -j ACCEPT`);

const variants: readonly {
  readonly name: string;
  readonly made: readonly string[];
  readonly inUse: string;
}[] = [
  {
    name: "the kubelet's chain in nftables, however many rules legacy has",
    made: ['iptables-nft -t mangle -N KUBE-IPTABLES-HINT', ...rules('iptables-legacy', 3)],
    inUse: 'nft: Kubernetes chains stand there',
  },
  {
    name: "the kubelet's chain in legacy, kube-proxy's in nftables",
    made: ['iptables-legacy -t mangle -N KUBE-KUBELET-CANARY', 'iptables-nft -t nat -N KUBE-SERVICES'],
    inUse: 'legacy: Kubernetes chains stand there',
  },
  {
    name: 'chains of both in both',
    made: ['iptables-legacy -t mangle -N KUBE-IPTABLES-HINT', 'iptables-nft -t mangle -N KUBE-IPTABLES-HINT'],
    inUse: 'nft: Kubernetes or flannel chains stand there',
  },
  {
    name: "flannel's chain in a table that iptables-nft cannot print",
    made: [
      'iptables-nft -t nat -N FLANNEL-POSTRTG',
      'nft add rule ip nat FLANNEL-POSTRTG ct count over 1000 counter',
      ...rules('iptables-legacy', 3),
    ],
    inUse: 'nft: Kubernetes or flannel chains stand there',
  },
  {
    name: "kube-proxy's chain in legacy, rules in nftables",
    made: ['iptables-legacy -t nat -N KUBE-SERVICES', ...rules('iptables-nft', 3)],
    inUse: 'legacy: Kubernetes or flannel chains stand there',
  },
  {
    name: 'rules of others',
    made: [...rules('iptables-legacy', 2), ...rules('iptables-nft', 1)],
    inUse: 'legacy: most rules stand there',
  },
];

describe('the variant of iptables that a node uses', () => {
  const inUse = async (namespace: Namespace, path: string): Promise<string | undefined> => {
    const args = ['preflight', '-o', 'json', `--socket=${namespace.directory}/none`];
    const { stdout } = await namespace.run(twillProgram, args, { env: { ...process.env, PATH: path } });
    const { checks } = JSON.parse(stdout) as PreflightAnswer;
    return checks.find(({ name }) => name === 'variant in use')?.detail;
  };

  for (const { name, made, inUse: expected } of variants)
    it(`is told by ${name}`, () =>
      withNamespace('variant', async (namespace) => {
        for (const command of made) await namespace.exec('sh', ['-c', command]);
        assert.equal(await inUse(namespace, process.env.PATH!), expected);
      }));

  it('is told without reading all rules where a chain tells it', () =>
    withNamespace('variant', async (namespace) => {
      await namespace.exec('iptables-nft', ['-t', 'nat', '-N', 'KUBE-SERVICES']);
      const programs = join(namespace.directory, 'programs');
      mkdirSync(programs);
      for (const name of ['iptables-nft-save', 'iptables-legacy-save'])
        writeFileSync(join(programs, name), '#!/bin/sh\nexit 1\n', { mode: 0o755 });
      const told = await inUse(namespace, `${programs}:${process.env.PATH}`);
      assert.equal(told, 'nft: Kubernetes or flannel chains stand there');
    }));
});
