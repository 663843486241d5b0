// Runs in a machine whose kernel has IPv6 off.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { exerciseNode, put, until } from './node.ts';

assert.equal(existsSync('/proc/sys/net/ipv6'), false, 'this kernel has no IPv6');
await exerciseNode(async (log) => {
  for (const name of ['agent', 'proxy'])
    assert.doesNotMatch(log(name), /EAFNOSUPPORT|ip6tables|"level":(?:50|"error")/);
  const IPv6Network = 'fd00:244::/48';
  await put('config', {
    Network: '10.244.0.0/16',
    EnableIPv6: true,
    IPv6Network,
    Backend: { Type: 'vxlan' },
  });
  await until('the agent to say why it does not do that', () => /this kernel has no IPv6/.test(log('agent')));
});
