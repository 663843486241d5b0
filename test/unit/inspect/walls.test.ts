import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type ProbePacket, parseFilterTable, wallFor } from '../../../src/inspect/plan/walls.ts';

const carried: ProbePacket = {
  in: 'eth0',
  out: undefined,
  source: '192.0.2.12',
  destination: '192.0.2.11',
  protocol: 'udp',
  port: 8472,
};

const table = (policy: string, ...rules: string[]): string =>
  [`-P INPUT ${policy}`, '-N firewall', ...rules, ''].join('\n');

const cases: readonly { name: string; text: string; wall: string | undefined }[] = [
  { name: 'nothing stands there', text: table('ACCEPT'), wall: undefined },
  { name: 'the policy drops', text: table('DROP'), wall: 'policy' },
  {
    name: 'the port is let in',
    text: table('DROP', '-A INPUT -p udp -m udp --dport 8472 -j ACCEPT'),
    wall: undefined,
  },
  {
    name: 'only conversations that stand are let in',
    text: table('DROP', '-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT'),
    wall: 'policy',
  },
  { name: 'a rule drops everything', text: table('ACCEPT', '-A INPUT -j DROP'), wall: '-A INPUT -j DROP' },
  {
    name: 'a rule is for another port',
    text: table('ACCEPT', '-A INPUT -p udp -m multiport --dports 53,4000:5000 -j DROP'),
    wall: undefined,
  },
  {
    name: 'a rule is for a range of ports',
    text: table('ACCEPT', '-A INPUT -p udp -m multiport --dports 53,8000:9000 -j DROP'),
    wall: '-A INPUT -p udp -m multiport --dports 53,8000:9000 -j DROP',
  },
  {
    name: 'a rule is for another network',
    text: table('ACCEPT', '-A INPUT -s 198.51.100.0/24 -j DROP'),
    wall: undefined,
  },
  {
    name: 'a rule is for all but one network',
    text: table('ACCEPT', '-A INPUT ! -s 198.51.100.0/24 -j REJECT --reject-with icmp-port-unreachable'),
    wall: '-A INPUT ! -s 198.51.100.0/24 -j REJECT --reject-with icmp-port-unreachable',
  },
  {
    name: 'a rule is for another device',
    text: table('ACCEPT', '-A INPUT -i eth1+ -j DROP'),
    wall: undefined,
  },
  {
    name: 'a chain drops',
    text: table(
      'ACCEPT',
      '-A INPUT -i eth+ -j firewall',
      '-A firewall -p tcp -j RETURN',
      '-A firewall -m comment --comment "no -j ACCEPT" -j DROP',
    ),
    wall: '-A firewall -m comment --comment "no -j ACCEPT" -j DROP',
  },
  {
    name: 'a chain returns',
    text: table('ACCEPT', '-A INPUT -j firewall', '-A firewall -p udp -j RETURN', '-A firewall -j DROP'),
    wall: undefined,
  },
  {
    name: 'a match that is not understood may let it in',
    text: table('DROP', '-A INPUT -m set --match-set nodes src -j ACCEPT'),
    wall: undefined,
  },
  {
    name: 'a match that is not understood may drop it',
    text: table('ACCEPT', '-A INPUT -m set --match-set bad src -j DROP'),
    wall: undefined,
  },
  {
    name: 'a rule is for packets with a mark',
    text: table('DROP', '-A INPUT -m mark --mark 0x4000/0x4000 -j ACCEPT'),
    wall: 'policy',
  },
  {
    name: 'invalid packets are dropped',
    text: table('ACCEPT', '-A INPUT -m conntrack --ctstate INVALID -j DROP'),
    wall: undefined,
  },
];

describe('what of a firewall stops a packet', () => {
  for (const { name, text, wall } of cases)
    it(name, () => {
      const found = wallFor(parseFilterTable(text), 'INPUT', carried);
      assert.equal(found && (found.rule ?? 'policy'), wall);
    });
});
