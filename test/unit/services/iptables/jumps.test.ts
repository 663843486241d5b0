import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { compareJumps, parseSaved } from '../../../../src/services/iptables/plan/document.ts';
import { jumps, localnetJumps, retiredJumps } from '../../../../src/services/iptables/plan/names.ts';

const wanted = [...localnetJumps, ...jumps];

/** The chain INPUT with these rules. */
function input(rules: readonly string[]): string {
  return `*filter\n:INPUT ACCEPT [0:0]\n${rules.map((rule) => `-A INPUT ${rule}\n`).join('')}COMMIT\n`;
}

const ofInput = (list: readonly { chain: string; rule: string }[]): string[] =>
  list.filter(({ chain }) => chain === 'INPUT').map(({ rule }) => rule);
const right = ofInput(wanted.filter(({ table }) => table === 'filter'));

describe('jumps that must stand before others', () => {
  it('are right where they do, whatever stands between', () => {
    const { missing, surplus } = compareJumps(
      'filter',
      wanted,
      parseSaved(input(['-j KUBE-ROUTER', ...right])),
    );
    assert.deepEqual([ofInput(missing), surplus], [[], []]);
  });

  it('are put to the front where the acceptance of health checks comes first', () => {
    const [firewall, localnet, ...others] = right;
    const standing = parseSaved(input([...others, firewall!, localnet!]));
    const { missing, surplus } = compareJumps('filter', wanted, standing);
    assert.deepEqual(ofInput(missing), [firewall, localnet]);
    assert.deepEqual(ofInput(surplus), [firewall, localnet]);
  });

  it('that are not wanted any more are taken away, the kubelet’s stays', () => {
    const { missing, surplus } = compareJumps('filter', jumps, parseSaved(input(right)), retiredJumps);
    assert.deepEqual([ofInput(missing), ofInput(surplus)], [[], ['-j KUBE-LOCALNET']]);
  });
});
