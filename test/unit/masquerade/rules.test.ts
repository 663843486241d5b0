import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { chainDocument, chainRules, type StandingChain } from '../../../src/masquerade/plan/iptables.ts';
import { nftDocument, nftTableText } from '../../../src/masquerade/plan/nftables.ts';
import { forwardChain, masqueradeChain, noRules, trafficRules } from '../../../src/masquerade/plan/rules.ts';
import { parsePrefix } from '../../../src/model/address.ts';

const rules = trafficRules({
  network: parsePrefix('10.244.0.0/16'),
  subnet: parsePrefix('10.244.7.0/24'),
  masquerade: true,
  forward: true,
  randomFully: true,
  guard: { bridges: ['cni0'], vxlan: { port: 8472, device: 'flannel.1' } },
});
const rules6 = trafficRules({
  network: parsePrefix('fd00::/48'),
  subnet: parsePrefix('fd00:0:0:7::/64'),
  masquerade: true,
  forward: false,
  randomFully: false,
  guard: { bridges: [], vxlan: undefined },
});

const comment = '-m comment --comment "flanneld masq"';
const jump = `-A POSTROUTING ${comment} -j FLANNEL-POSTRTG`;
const own = chainRules(masqueradeChain, rules.masquerade!, true);
const document = (standing: StandingChain): string[] | undefined =>
  chainDocument(masqueradeChain, rules.masquerade, true, standing)?.trim().split('\n');

describe('masquerade rules', () => {
  it("are flannel's, as iptables prints them", () => {
    assert.deepEqual(own, [
      `-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 ${comment} -j RETURN`,
      `-A FLANNEL-POSTRTG -s 10.244.7.0/24 -d 10.244.0.0/16 ${comment} -j RETURN`,
      `-A FLANNEL-POSTRTG -s 10.244.0.0/16 -d 10.244.7.0/24 ${comment} -j RETURN`,
      `-A FLANNEL-POSTRTG ! -s 10.244.0.0/16 -d 10.244.7.0/24 ${comment} -j RETURN`,
      `-A FLANNEL-POSTRTG -s 10.244.0.0/16 ! -d 224.0.0.0/4 ${comment} -j MASQUERADE --random-fully`,
      `-A FLANNEL-POSTRTG ! -s 10.244.0.0/16 -d 10.244.0.0/16 ${comment} -j MASQUERADE --random-fully`,
    ]);
  });

  it('are made with their chain and a jump at the end where nothing stands', () => {
    const parent = ['-P POSTROUTING ACCEPT', '-A POSTROUTING -j KUBE-POSTROUTING'];
    assert.deepEqual(document({ own: undefined, parent }), [
      '*nat',
      ':FLANNEL-POSTRTG - [0:0]',
      ...own,
      `-I POSTROUTING 2 ${comment} -j FLANNEL-POSTRTG`,
      'COMMIT',
    ]);
  });

  it('are left alone where they are right', () => {
    const standing = { own: ['-N FLANNEL-POSTRTG', ...own], parent: ['-P POSTROUTING ACCEPT', jump] };
    assert.equal(document(standing), undefined);
  });

  it('are put in order, and only they', () => {
    const standing = { own: ['-N FLANNEL-POSTRTG', ...[...own].reverse()], parent: [jump] };
    assert.deepEqual(document(standing), ['*nat', ':FLANNEL-POSTRTG - [0:0]', ...own, 'COMMIT']);
  });

  it('lose a second jump', () => {
    const other = '-A POSTROUTING -j FLANNEL-POSTRTG';
    assert.deepEqual(document({ own: ['-N FLANNEL-POSTRTG', ...own], parent: [jump, other] }), [
      '*nat',
      `-D POSTROUTING ${comment} -j FLANNEL-POSTRTG`,
      '-D POSTROUTING -j FLANNEL-POSTRTG',
      `-I POSTROUTING 1 ${comment} -j FLANNEL-POSTRTG`,
      'COMMIT',
    ]);
  });

  it('are taken away with chain and jump where they are not wanted', () => {
    const standing = { own: ['-N FLANNEL-POSTRTG', ...own], parent: [jump] };
    assert.equal(
      chainDocument(masqueradeChain, undefined, true, standing),
      `*nat\n:FLANNEL-POSTRTG - [0:0]\n-D POSTROUTING ${comment} -j FLANNEL-POSTRTG\n-X FLANNEL-POSTRTG\nCOMMIT\n`,
    );
    assert.equal(chainDocument(masqueradeChain, undefined, true, { own: undefined, parent: [] }), undefined);
  });

  it("let forwarded traffic pass before somebody's rule that refuses everything", () => {
    const text = chainDocument(forwardChain, rules.forward, true, {
      own: undefined,
      parent: [
        '-P FORWARD ACCEPT',
        '-A FORWARD -j KUBE-FORWARD',
        '-A FORWARD -j REJECT --reject-with icmp-host-prohibited',
      ],
    });
    assert.match(text ?? '', /^-I FORWARD 2 -m comment --comment "flanneld forward" -j FLANNEL-FWD$/m);
  });

  it('are one table in nftables', () => {
    assert.match(nftTableText(rules6) ?? '', /ip6 saddr fd00::\/48 ip6 daddr != ff00::\/8 masquerade\n/);
    assert.ok(nftDocument(rules6).startsWith('table ip6 flannel-ipv6\ndelete table ip6 flannel-ipv6\n'));
    assert.equal(nftDocument(noRules(rules)), 'table ip flannel-ipv4\ndelete table ip flannel-ipv4\n');
  });
});
