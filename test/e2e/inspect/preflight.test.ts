import assert from 'node:assert/strict';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { PreflightAnswer } from '../../../src/inspect/plan/preflight.ts';
import { runChecked } from '../../../src/kernel/process.ts';
import { twillProgram } from '../../lab/files.ts';
import { Lab } from '../../lab/lab.ts';
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
