import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RTNLGRP_LINK } from '../../../src/kernel/netlink/constants.ts';
import { EventSocket, type Listener } from '../../../src/kernel/netlink/events.ts';
import { deletedLinksOnly, notOfPods } from '../../../src/kernel/netlink/filter.ts';
import { parseLink } from '../../../src/kernel/netlink/links.ts';
import { inNetns } from '../../../src/kernel/netns.ts';
import { withNamespace } from '../../lab/namespace.ts';
import { waitFor } from '../../lab/wait.ts';

const pod = 'veth0123456789a';

/** The names of the links that a socket with the filter hears of while some come and go, the last named last. */
async function heard(filter: Buffer | undefined): Promise<string[]> {
  const names: string[] = [];
  await withNamespace('filter', async (namespace) => {
    const listener: Listener = {
      groups: [RTNLGRP_LINK],
      ...(filter === undefined ? {} : { filter }),
      onEvent: (message) => names.push(parseLink(message)?.name ?? ''),
      onLost: () => {},
    };
    const socket = inNetns(namespace.path, () => new EventSocket(listener));
    try {
      await namespace.ip('link add cni0 type bridge', `link add ${pod} type veth peer name eth0`);
      await namespace.ip(`link set ${pod} master cni0 up`, 'link add veth7 type bridge');
      await namespace.ip(`link del ${pod}`, 'link add last type bridge', 'link del last');
      await waitFor('the last link', () => names.includes('last'));
    } finally {
      socket.close();
    }
  });
  return names;
}

test('a socket without a filter hears of every link', async () => {
  const names = new Set(await heard(undefined));
  for (const name of ['cni0', pod, 'eth0', 'veth7', 'last']) assert.ok(names.has(name), name);
});

test('the overlay hears of every link but those of pods', async () => {
  const names = new Set(await heard(notOfPods));
  assert.ok(!names.has(pod));
  for (const name of ['cni0', 'eth0', 'veth7', 'last']) assert.ok(names.has(name), name);
});

test('the reaper hears of deleted links, each once', async () => {
  const names = await heard(deletedLinksOnly);
  assert.deepEqual([...names].sort(), ['eth0', 'last', pod].sort());
});
