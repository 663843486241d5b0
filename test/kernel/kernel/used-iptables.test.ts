import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { it, type TestContext } from 'node:test';
import { kernelError } from '../../../src/kernel/errno.ts';
import { RtSocket } from '../../../src/kernel/netlink/socket.ts';
import { detectVariant } from '../../../src/kernel/used-iptables.ts';
import { ipv4 } from '../../../src/model/address.ts';

/** The kernel says this, and nothing else, of nf_tables. */
function kernelSays(context: TestContext, errno: keyof typeof constants.errno): void {
  context.mock.method(RtSocket.prototype, 'ask', async () => {
    throw kernelError('look for a chain', constants.errno[errno]);
  });
}

it('a kernel that is short of something for the moment does not say which iptables a node uses', async (context) => {
  kernelSays(context, 'ENOMEM');
  await assert.rejects(detectVariant(ipv4), { code: 'exhausted' });
});

for (const errno of ['EINVAL', 'EOPNOTSUPP', 'EPERM'] as const)
  it(`one that lacks nf_tables, or may not be asked, does: ${errno}`, async (context) => {
    kernelSays(context, errno);
    assert.deepEqual(await detectVariant(ipv4), {
      variant: 'legacy',
      why: 'iptables-nft does not work here',
    });
  });
