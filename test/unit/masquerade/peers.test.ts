import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  type PeerTable,
  peerDocument,
  peerTableText,
  splitPeerTable,
} from '../../../src/masquerade/plan/peers.ts';

const table = (port: number, ipv4: string[], ipv6: string[]): PeerTable => ({
  port,
  peers: { ipv4: new Set(ipv4), ipv6: new Set(ipv6) },
});
const some = table(8472, ['192.0.2.12', '192.0.2.11'], ['2001:db8::12']);

describe('the table of those who may send to the VXLAN port', () => {
  it('replaces whatever has its name where it does not stand, or with another port', () => {
    const text = `table inet twill-peers
delete table inet twill-peers
table inet twill-peers {
	set peers-ipv4 {
		type ipv4_addr
		elements = { 192.0.2.12, 192.0.2.11 }
	}

	set peers-ipv6 {
		type ipv6_addr
		elements = { 2001:db8::12 }
	}

	chain input {
		type filter hook input priority mangle; policy accept;
		udp dport 8472 iifname != "lo" ip saddr != @peers-ipv4 counter drop
		udp dport 8472 iifname != "lo" ip6 saddr != @peers-ipv6 counter drop
	}
}
`;
    assert.equal(peerDocument(undefined, some), text);
    assert.equal(peerDocument({ ...some, port: 4789 }, some), text);
    assert.doesNotMatch(peerTableText(table(8472, [], [])), /elements/);
  });

  it('is otherwise brought up to date by what differs', () => {
    assert.equal(peerDocument(some, table(8472, ['192.0.2.11', '192.0.2.12'], ['2001:db8::12'])), undefined);
    assert.equal(
      peerDocument(some, table(8472, ['192.0.2.11', '192.0.2.13', '192.0.2.14'], [])),
      [
        'add element inet twill-peers peers-ipv4 { 192.0.2.13, 192.0.2.14 }\n',
        'delete element inet twill-peers peers-ipv4 { 192.0.2.12 }\n',
        'delete element inet twill-peers peers-ipv6 { 2001:db8::12 }\n',
      ].join(''),
    );
  });

  it('is read back whatever order and lines its addresses come in', () => {
    const shown = peerTableText(some).replace('192.0.2.12, 192.0.2.11', '192.0.2.11,\n\t\t\t     192.0.2.12');
    assert.deepEqual(splitPeerTable(shown), splitPeerTable(peerTableText(some)));
    assert.equal(splitPeerTable(shown).rest, peerTableText(table(8472, [], [])));
  });
});
