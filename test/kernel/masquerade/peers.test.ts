import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type PeerTable,
  peerDocument,
  peersTable,
  peerTableText,
  splitPeerTable,
} from '../../../src/masquerade/plan/peers.ts';
import { withNamespace } from '../../lab/namespace.ts';

function peers(first: number, count: number): PeerTable {
  const numbers = Array.from({ length: count }, (_, index) => first + index);
  return {
    port: 8472,
    peers: {
      ipv4: new Set(numbers.map((number) => `192.0.${number >> 8}.${number & 255}`)),
      ipv6: new Set(numbers.map((number) => `2001:db8::${(number + 1).toString(16)}`)),
    },
  };
}

test('the table of peers reads back as it was written, and follows in steps', () =>
  withNamespace('peers', async (namespace) => {
    let standing: PeerTable | undefined;
    for (const wanted of [peers(0, 5000), peers(2500, 5000), peers(0, 3), peers(0, 0), peers(0, 1)]) {
      await namespace.exec('nft', ['-f', '-'], { input: peerDocument(standing, wanted)! });
      standing = wanted;
      const shown = await namespace.exec('nft', ['-s', 'list', 'table', peersTable.nft, peersTable.name]);
      assert.deepEqual(splitPeerTable(shown), splitPeerTable(peerTableText(wanted)));
    }
    await namespace.exec('nft', ['-f', '-'], { input: peerDocument(undefined, peers(0, 2))! });
  }));
