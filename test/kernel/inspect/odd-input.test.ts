import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { type RunResult, runChecked } from '../../../src/kernel/process.ts';
import { serveQuestions } from '../../../src/process/question-server.ts';
import { twillProgram } from '../../lab/files.ts';
import { makeNamespace, type Namespace } from '../../lab/namespace.ts';
import { waitFor } from '../../lab/wait.ts';

/** What an operator types, what becomes of it, and what is said about it, on whichever of both outputs. */
interface Case {
  readonly args: readonly string[];
  readonly status: number;
  readonly says: RegExp;
}

const mistyped: readonly Case[] = [
  { args: ['status', '--bogus'], status: 3, says: /unknown option '--bogus'/ },
  { args: ['routes', '-o', 'xml'], status: 3, says: /Allowed choices are table, json, yaml/ },
  { args: ['pods', 'web'], status: 3, says: /too many arguments/ },
  { args: ['trace', 'node'], status: 3, says: /missing required argument 'to'/ },
  { args: ['trace', 'node', '10.0.0.1', '--protocol', 'tpc'], status: 3, says: /choices are tcp, udp, sctp/ },
  { args: ['trace', 'node', '10.0.0.1:0'], status: 3, says: /'0' is not a port from 1 to 65535/ },
  { args: ['trace', 'node', '10.0.0.1:65536'], status: 3, says: /'65536' is not a port/ },
  { args: ['trace', 'node', '10.0.0.1:http'], status: 3, says: /'http' is not a port/ },
  { args: ['trace', 'node', 'shop/nobody'], status: 3, says: /'shop\/nobody' is no pod, Service or address/ },
  { args: ['trace', 'node', 'node'], status: 3, says: /write the port behind the node, as in node:30080/ },
  { args: ['trace', 'node:80', '10.0.0.1'], status: 3, says: /FROM has no port: write 'node'/ },
  { args: ['trace', 'node', '10.0.0.1', '--from-address', 'x'], status: 3, says: /'x' is not an IP address/ },
  {
    args: ['trace', 'node', '[fd00::1]:80', '--from-address', '10.0.0.1'],
    status: 3,
    says: /10\.0\.0\.1 and fd00::1 are not of one family/,
  },
  { args: ['status', '--watch', '0'], status: 3, says: /--watch 0 is not a number of seconds/ },
  { args: ['preflight', '--peer', 'node2'], status: 3, says: /--peer 'node2' is not an IP address/ },
  { args: ['preflight', '--network', '10.0.0.0'], status: 3, says: /--network is not a network/ },
  { args: ['trace', '--help'], status: 0, says: /Exit status: 0 it arrives/ },
];

/** On a node where nothing of Twill has ever run. */
const bare: readonly Case[] = [
  {
    args: ['status'],
    status: 2,
    says: /^this node is down: .*does not answer on [\s\S]*: no agent runs here/,
  },
  { args: ['status', '-o', 'yaml'], status: 2, says: /^version: 1\nverdict: down\n/ },
  { args: ['routes'], status: 3, says: /there is no such socket, and nothing it has written down/ },
  { args: ['diff'], status: 3, says: /nothing on this node says what should be/ },
  { args: ['pods'], status: 3, says: /there are no records of pods in/ },
  { args: ['services'], status: 3, says: /no proxy of Twill runs on this node/ },
  { args: ['services', 'web'], status: 3, says: /no proxy of Twill runs on this node/ },
  { args: ['trace', 'node', '203.0.113.9:80'], status: 1, says: /DIES at node: no way to 203\.0\.113\.9/ },
  { args: ['trace', 'node', '[2001:db8::9]:80'], status: 1, says: /DIES at node: no way to 2001:db8::9/ },
  { args: ['trace', 'node', '127.0.0.1:9'], status: 0, says: /nobody listens on tcp port 9: .* is refused/ },
];

const sockets = ['--socket=/nonexistent/cni.sock', '--proxy-socket=/nonexistent/proxy.sock'];

describe('what is asked oddly', () => {
  let namespace: Namespace;

  const holds = async ({ args, status, says }: Case): Promise<void> => {
    const result = await namespace.run(process.execPath, [twillProgram, ...args, ...sockets]);
    const said = `${result.stdout}${result.stderr}`;
    assert.match(said, says);
    assert.equal(result.status, status, said);
    // An answer to a person, not to whoever wrote the program.
    assert.doesNotMatch(said, /^ +at |undefined|\[object|NaN/m);
  };

  before(async () => {
    namespace = await makeNamespace('odd');
  });
  after(() => namespace?.remove());

  for (const one of [...mistyped, ...bare]) it(one.args.join(' '), () => holds(one));

  it('where no program is installed that others have', async () => {
    await namespace.exec('nft', [
      'add table inet other { chain in { type filter hook input priority 0; }; }',
    ]);
    // `ip` itself is found before the variable is set.
    const without = (...args: string[]): Promise<RunResult> => {
      const command = [process.execPath, twillProgram, ...args, ...sockets].join(' ');
      return namespace.run('sh', ['-c', `PATH=/nonexistent exec ${command}`]);
    };
    const first = await without('status');
    assert.match(first.stdout.replace(/\s+/g, ' '), /iptables missing, nft missing/);
    assert.equal(first.status, 2);
    const trace = await without('trace', 'node', '127.0.0.1:9');
    assert.match(trace.stdout.replace(/\s+/g, ' '), /nftables table inet other \('nft' is not installed\)/);
    const preflight = await without('preflight');
    assert.match(preflight.stdout.replace(/\s+/g, ' '), /install iptables/);
    assert.ok(preflight.status <= 1, preflight.stderr);
  });

  it('trace of what is nobody’s ends what it has begun to read rules with', async () => {
    await namespace.exec('iptables-nft', ['-t', 'nat', '-N', 'OTHERS']);
    const directory = mkdtempSync(join(namespace.directory, 'trace-'));
    const begun = join(directory, 'begun');
    writeFileSync(join(directory, 'iptables-nft-save'), `#!/bin/sh\necho $$ >${begun}\nexec sleep 1000\n`, {
      mode: 0o755,
    });
    // A proxy that answers when rules are being read.
    const path = join(directory, 'proxy.sock');
    const close = await serveQuestions(path, async () => {
      await waitFor('rules to be read', () => existsSync(begun));
      return JSON.stringify({ services: [] });
    });
    try {
      const flags = ['--socket=/nonexistent/cni.sock', `--proxy-socket=${path}`];
      const { status, stderr } = await namespace.run(
        process.execPath,
        [twillProgram, 'trace', 'node', 'shop/nobody', ...flags],
        { env: { ...process.env, PATH: `${directory}:${process.env.PATH}` } },
      );
      assert.match(stderr, /'shop\/nobody' is no pod, Service or address/);
      assert.equal(status, 3);
      const pid = readFileSync(begun, 'utf8').trim();
      await waitFor('what reads rules to end', async () => {
        const pids = await runChecked('ip', ['netns', 'pids', namespace.name]);
        return !pids.split('\n').includes(pid);
      });
    } finally {
      await close();
      await namespace.exec('iptables-nft', ['-t', 'nat', '-X', 'OTHERS']);
    }
  });

  it('--watch into a pipe that is closed ends, and says nothing', async () => {
    const looks = `${process.execPath} ${twillProgram} status --watch=0.1 ${sockets.join(' ')}`;
    const { stdout, stderr } = await namespace.run('sh', [
      '-c',
      `{ ${looks}; echo "ended with $?" >&2; } | head -n 1`,
    ]);
    assert.match(stdout, /^this node is down/);
    assert.equal(stderr, 'ended with 2\n');
  });

  it('has colours in a terminal that wants them only, and fits its columns', async () => {
    const terminal = async (setup: string): Promise<string> => {
      const command = `${setup}; ${process.execPath} ${twillProgram} status ${sockets.join(' ')}`;
      const { stdout } = await namespace.run('script', ['-qec', command, '/dev/null'], {
        env: { TERM: 'xterm' },
      });
      return stdout.replaceAll('\r', '');
    };
    const coloured = await terminal('stty cols 70');
    assert.ok(coloured.includes('\u001b[31m'));
    const [first, ...painted] = coloured.split('\u001b[');
    const shown = [first, ...painted.map((part) => part.slice(part.indexOf('m') + 1))]
      .join('')
      .split('\n')
      .slice(1);
    for (const line of shown) if (!line.trimStart().startsWith('$')) assert.ok(line.length <= 70, line);
    assert.ok(!(await terminal('export NO_COLOR=1')).includes('\u001b['));
    // A terminal without a size, as kubectl exec has one at first.
    assert.match(await terminal('stty cols 0'), /this node is down/);
  });
});
