// Hosts whose kernel is another one than this machine's: agent, CNI plugin and proxy in a machine of their own.
import { test } from 'node:test';
import { runInMachine } from '../../lab/machine.ts';

const guest = (name: string): string => `${process.execPath} build/test/lab/guest/${name}.js`;

test('a kernel with ipv6.disable=1: pods, host ports, bandwidth and Services over IPv4', async () => {
  await runInMachine(guest('no-ipv6'), { kernel: 'ipv6.disable=1' });
});
