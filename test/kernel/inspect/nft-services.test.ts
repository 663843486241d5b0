import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { runChecked } from '../../../src/kernel/process.ts';
import { addUplink } from '../../lab/command.ts';
import { twillProgram } from '../../lab/files.ts';
import { makeNamespace, type Namespace } from '../../lab/namespace.ts';
import { type Running, startProxy } from '../../lab/proxy-process.ts';
import { waitFor } from '../../lab/wait.ts';

const manifest = `
apiVersion: v1
kind: Service
metadata: {namespace: shop, name: web}
spec: {type: NodePort, clusterIP: 10.96.0.10, clusterIPs: [10.96.0.10], ports: [{name: http, port: 80, protocol: TCP, nodePort: 30080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: shop, name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints:
  - {addresses: [10.244.1.2], conditions: {ready: true}, nodeName: node1}
  - {addresses: [10.244.2.3], conditions: {ready: true}, nodeName: node2}
`;

interface Found {
  readonly object: string;
  readonly state: string;
  readonly detail: string;
  readonly show: string;
}

describe('Services of mode nftables', () => {
  let node: Namespace;
  let folder: string;
  let proxy: Running;
  const socket = (): string => join(folder, 'proxy.sock');

  const flags = (): string[] => ['-o', 'json', '--socket=/nobody/agent', `--proxy-socket=${socket()}`];

  /** @param wrapper a program with its arguments that runs it */
  async function twill(
    args: readonly string[],
    wrapper: readonly string[] = [],
  ): Promise<{ status: number | undefined; answer: unknown }> {
    const [program, ...rest] = [...wrapper, twillProgram, ...args, ...flags()];
    const { status, stdout, stderr } = await node.run(program!, rest);
    assert.notEqual(stdout, '', stderr);
    return { status: status ?? undefined, answer: JSON.parse(stdout) };
  }

  async function problems(wrapper?: readonly string[]): Promise<string> {
    const { answer } = await twill(['status'], wrapper);
    const { problems: all } = answer as { problems: readonly { severity: string; what: string }[] };
    return all.map(({ severity, what }) => `${severity} ${what}`).join('\n');
  }

  async function differences(): Promise<Found[]> {
    const { answer } = await twill(['diff']);
    const { differences: all } = answer as { differences: (Found & { kind: string })[] };
    return all.filter(({ kind }) => kind === 'service rules');
  }

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'twill-nft-'));
    writeFileSync(join(folder, 'services.yaml'), manifest);
    node = await makeNamespace('node');
    await addUplink(node);
    proxy = startProxy(node, [
      '--proxy-mode=nftables',
      `--manifests=${folder}`,
      '--hostname-override=node1',
      `--inspect-socket=${socket()}`,
      '--healthz-bind-address=127.0.0.1:10256',
      '--metrics-bind-address=',
    ]);
    await waitFor(
      'the first rules',
      async () => /"rules/.test(proxy.text()) && (await differences()).length === 0,
      {
        explain: () => proxy.text(),
      },
    );
  });
  after(async () => {
    proxy.child.kill('SIGCONT');
    proxy.child.kill();
    await node.remove();
    rmSync(folder, { recursive: true });
  });

  it('are traced without nft being asked for single elements: for each it reads those of all sets', async () => {
    const programs = join(folder, 'programs');
    mkdirSync(programs);
    const real = (await runChecked('sh', ['-c', 'command -v nft'])).trim();
    writeFileSync(join(programs, 'nft'), `#!/bin/sh\n[ "$1" = get ] && exit 1\nexec ${real} "$@"\n`, {
      mode: 0o755,
    });
    const path = ['env', `PATH=${programs}:${process.env.PATH}`];
    const { answer } = await twill(['trace', 'node', '10.96.0.10:80'], path);
    const { ways } = answer as {
      ways: readonly { share: string; packet: { destination: string; port: number } }[];
    };
    assert.deepEqual(
      ways.map(({ share, packet }) => `${share} ${packet.destination}:${packet.port}`).sort(),
      ['1/2 10.244.1.2:8080', '1/2 10.244.2.3:8080'],
    );
  });

  it('are shown with the elements that implement them', async () => {
    const { status, answer } = await twill(['services', 'shop/web']);
    const { rules, rulesKnown } = answer as {
      rulesKnown: boolean;
      rules: readonly { table: string; chain: string; rule: string }[];
    };
    assert.equal(status, 0);
    assert.equal(rulesKnown, true);
    const text = rules.map(({ chain, rule }) => `${chain} ${rule.replace(/[0-9a-f]+:[0-9a-f]+/g, 'ID')}`);
    assert.deepEqual(text, [
      'services 10.96.0.10 . tcp . 80 : ID',
      'node-ports tcp . 30080 : ID',
      'endpoints-tcp ID . 0 : 10.244.1.2 . 8080',
      'endpoints-tcp ID . 1 : 10.244.2.3 . 8080',
    ]);
  });

  it('do not differ where all is well, whoever says what should stand', async () => {
    assert.deepEqual(await differences(), []);
    await waitFor('the state to be written down', () => {
      const file = join(folder, 'proxy-state.json');
      return existsSync(file) && /"ready":true/.test(readFileSync(file, 'utf8'));
    });
    proxy.child.kill('SIGSTOP');
    assert.deepEqual(await differences(), []);
  });

  it('differ where an element is gone, one is foreign, or a chain is another, while the proxy is stopped', async () => {
    const nft = (...args: string[]): Promise<string> => node.exec('nft', args);
    const named = async (object: string, state: string, show: RegExp): Promise<void> => {
      const found = await differences();
      const one = found.find((each) => each.object === object && each.state === state);
      assert.match(one?.show ?? JSON.stringify(found), show);
    };
    await nft('delete element ip twill-services services { 10.96.0.10 . tcp . 80 }');
    await named(
      'services 10.96.0.10 . tcp . 80 (IPv4)',
      'missing',
      /^nft list map ip twill-services services$/,
    );
    await nft('add element ip twill-services cluster-ips { 10.96.7.7 }');
    await named('cluster-ips 10.96.7.7 (IPv4)', 'foreign', /^nft list set ip twill-services cluster-ips$/);
    const [, chain] = /chain (\S+) \{\n\t\ttype nat hook prerouting/.exec(await nft('list chains ip'))!;
    await nft(`flush chain ip twill-services ${chain}`);
    await named(`chain ${chain} (IPv4)`, 'wrong', /^nft list chain ip twill-services /);
    proxy.child.kill('SIGCONT');
    await waitFor('the proxy to put it right', async () => (await differences()).length === 0);
  });

  it('of which no packet comes to any are a problem of the node, while the proxy is stopped', async () => {
    const unreached = /^degraded no Service is reached \(IPv4\), its rules are not there: (.*)$/m;
    assert.doesNotMatch(await problems(), unreached);
    proxy.child.kill('SIGSTOP');
    const table = 'ip twill-services';
    const faults: readonly (readonly [fault: string, says: string])[] = [
      [`add table ${table} { flags dormant; }`, `the table ${table} is dormant`],
      [
        `add table ${table}; flush chain ${table} nat-prerouting`,
        `nothing leads to them: the chain nat-prerouting of the table ${table} is empty`,
      ],
      [`delete chain ${table} nat-prerouting`, `the chain nat-prerouting of the table ${table} is gone`],
      [`delete table ${table}`, `the table ${table} is gone`],
    ];
    for (const [fault, says] of faults) {
      await node.exec('nft', [fault]);
      const found = await problems();
      assert.equal(unreached.exec(found)?.[1], says, found);
    }
    proxy.child.kill('SIGCONT');
    await waitFor('the proxy to put it right', async () => !unreached.test(await problems()));
  });

  it('that cannot be looked at are not known to be reached, and the rest of status is there', async () => {
    const found = await problems(['setpriv', '--bounding-set=-net_admin', '--inh-caps=-net_admin']);
    assert.match(found, /^note whether Services are reached \(IPv4\) is not known: .*EPERM/m);
    assert.doesNotMatch(found, /no Service is reached/);
  });

  it('can be looked at for long: each look lets go of what it has opened', async () => {
    const child = node.spawn(process.execPath, [twillProgram, 'diff', '--watch=0.1', ...flags()], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let looks = 0;
    child.stdout!.on('data', (chunk: Buffer) => {
      looks += chunk.toString().match(/^\{$/gm)?.length ?? 0;
    });
    const open = (): number => readdirSync(`/proc/${child.pid}/fd`).length;
    await waitFor('the first looks', () => looks >= 2);
    const before = open();
    await waitFor('more looks', () => looks >= 10);
    // One may be on its way.
    await waitFor('no more to be open than before', () => open() <= before, { timeoutMs: 10_000 });
    child.kill();
  });
});
