import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { twillProgram } from '../../lab/files.ts';
import { httpAnswer } from '../../lab/http.ts';
import { type Namespace, withNamespace } from '../../lab/namespace.ts';
import { pathWithout } from '../../lab/programs.ts';
import { startProxy } from '../../lab/proxy-process.ts';
import { noDrawnNumbers, type RefusingNft, refusingNft } from '../../lab/refusing-nft.ts';
import { waitFor } from '../../lab/wait.ts';

interface Case {
  readonly name: string;
  readonly mode: 'iptables' | 'nftables';
  readonly reason: RegExp;
  /** What is done to the node before. */
  readonly before?: (node: Namespace) => Promise<unknown>;
  readonly flags?: readonly string[];
  /** Programs that are not to be found. */
  readonly without?: RegExp;
  /** What nft or the kernel lacks. */
  readonly lacks?: RefusingNft;
  /** What /readyz and status say besides. */
  readonly warns?: readonly RegExp[];
}

const rules = (node: Namespace, family: string, document: string) =>
  node.exec(`${family}-nft-restore`, ['--noflush'], { input: document });

const cases: readonly Case[] = [
  { name: 'a node on which nothing is', mode: 'nftables', reason: /can do all of it/ },
  {
    name: 'a node without iptables',
    mode: 'nftables',
    reason: /can do all of it/,
    without: /tables/,
  },
  {
    name: 'a node without nft',
    mode: 'iptables',
    reason: /nftables cannot serve ipv4 here: 'nft' is not installed/,
    without: /^nft$/,
  },
  {
    name: 'a kernel that draws no numbers',
    mode: 'iptables',
    reason:
      /ipv4 here: Linux \S+ does not know numbers drawn by lot .* with module nft_numgen: load that module, or update the kernel$/,
    lacks: {
      pattern: 'numgen random mod',
      says: '/dev/stdin:9:1-20: Error: Could not process rule: No such file or directory',
    },
  },
  {
    name: 'a kernel without two of the modules',
    mode: 'iptables',
    reason:
      /ipv4 here: Linux \S+ does not know refusal of connections \(reject\) \(No such file or directory\), which Linux 3\.15 does with module nft_reject_ipv4 or nft_reject_ipv6: load that module, or update the kernel \(and 1 more\)$/,
    lacks: {
      pattern: 'numgen| reject$',
      says: '/dev/stdin:9:1-20: Error: Could not process rule: No such file or directory',
    },
    warns: [
      /nftables \(ipv4\): Linux \S+ does not know refusal of connections/,
      /nftables \(ipv4\): Linux \S+ does not know numbers drawn by lot .* with module nft_numgen/,
      /nftables \(ipv6\): Linux \S+ does not know numbers drawn by lot/,
    ],
  },
  {
    name: 'an nft that takes no drawn number as a part of a key, as 1.0.2',
    mode: 'nftables',
    reason: /can do all of it/,
    lacks: noDrawnNumbers,
  },
  {
    name: 'an nft that does not know ranges in sets of several fields',
    mode: 'iptables',
    reason:
      /ipv4 here: nft \d\.\d\S* does not know ranges in sets of several fields, which nft 0\.9\.4 does: install nft 1\.0\.2 or later \(.*syntax error/,
    lacks: { pattern: 'flags interval', says: '/dev/stdin:3:1-20: Error: syntax error, unexpected flags' },
    warns: [/nftables \(ipv6\): nft \S+ does not know ranges in sets/],
  },
  {
    name: 'forwarding that iptables refuses unless it accepts it',
    mode: 'iptables',
    reason: /chain FORWARD of ip6tables-nft refuses .*-P FORWARD DROP/,
    before: (node) => node.exec('ip6tables-nft', ['-P', 'FORWARD', 'DROP']),
  },
  {
    name: 'forwarding of which iptables cannot print what it refuses',
    mode: 'iptables',
    reason: /chain FORWARD of table filter .*cannot print/,
    before: async (node) => {
      await node.exec('iptables-nft', ['-A', 'FORWARD', '-s', '203.0.113.99', '-j', 'RETURN']);
      await node.exec('nft', 'add rule ip filter FORWARD ct count over 100000 counter'.split(' '));
    },
  },
  {
    name: 'rules of others that lead to the proxy’s chains',
    mode: 'iptables',
    reason: /chain CNI-DN-0123456789ab of somebody else's leads to KUBE-MARK-MASQ/,
    before: (node) =>
      rules(
        node,
        'iptables',
        '*nat\n:KUBE-MARK-MASQ -\n:CNI-DN-0123456789ab -\n-A CNI-DN-0123456789ab -j KUBE-MARK-MASQ\nCOMMIT\n',
      ),
  },
  {
    name: 'node ports on 127.0.0.1 that are asked for',
    mode: 'iptables',
    reason: /--iptables-localhost-nodeports asks for node ports on 127\.0\.0\.1/,
    flags: ['--iptables-localhost-nodeports=true'],
  },
];

async function status(node: Namespace, socket: string): Promise<string> {
  const flags = ['status', `--proxy-socket=${socket}`, '--socket=/nonexistent'];
  return (await node.run(process.execPath, [twillProgram, ...flags])).stdout.replace(/\s+/g, ' ');
}

describe('--proxy-mode=auto', () => {
  for (const { name, mode, reason, before, flags = [], without, lacks, warns = [] } of cases) {
    test(`${name}: ${mode}, and the reason is in log, status and metric`, async () => {
      await withNamespace('auto', async (node) => {
        const directory = mkdtempSync(join(tmpdir(), 'twill-auto-'));
        try {
          await before?.(node);
          const socket = join(directory, 'proxy.sock');
          const programs = without && pathWithout(directory, without);
          const PATH = lacks ? `${refusingNft(directory, lacks)}:${process.env.PATH}` : programs;
          const env = PATH === undefined ? {} : { PATH };
          mkdirSync(join(directory, 'manifests'));
          const manifests = `--manifests=${join(directory, 'manifests')}`;
          const args = ['--proxy-mode=auto', manifests, `--inspect-socket=${socket}`, ...flags];
          const { child, text } = startProxy(node, args, env);
          const ready = async () => (await httpAnswer(node, 10_256, '/readyz')).startsWith('HTTP/1.1 200');
          await waitFor('the proxy', ready, { explain: text });
          const line = text()
            .split('\n')
            .find((each) => each.includes('the mode of the proxy'));
          const said = JSON.parse(line ?? '{}') as Record<string, string>;
          assert.deepEqual([said.mode, said.wanted], [mode, 'auto']);
          assert.match(said.reason!, reason);
          const answer = await status(node, socket);
          assert.match(answer, new RegExp(`mode ${mode}, chosen here: `));
          assert.match(answer, mode === 'nftables' ? /ipv4 by nft, as/ : /ipv4 by (nft|legacy), as/);
          const readyz = await httpAnswer(node, 10_256, '/readyz');
          for (const warning of warns) for (const said of [answer, readyz]) assert.match(said, warning);
          const metrics = await httpAnswer(node, 10_249, '/metrics');
          assert.match(metrics, new RegExp(`^twill_proxy_mode\\{mode="${mode}",wanted="auto",reason="`, 'm'));
          assert.match(await httpAnswer(node, 10_249, '/proxyMode'), new RegExp(`\\r\\n${mode}(\\r\\n|$)`));
          const tables = await node.exec('nft', ['list', 'tables']);
          assert.equal(tables.includes('table ip twill-services'), mode === 'nftables');
          assert.ok(!tables.includes('probe'));
          child.kill();
          await once(child, 'exit');
        } finally {
          rmSync(directory, { recursive: true });
        }
      });
    });
  }
});
