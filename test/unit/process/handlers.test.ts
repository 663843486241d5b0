import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { it } from 'node:test';
import { root } from '../../lab/files.ts';

/** Files that set timers without `guarded`, and why what these call cannot throw. */
const known: Readonly<Record<string, string>> = {
  'src/inspect/services-source.ts': 'settles a promise',
  'src/inspect/trace/probe.ts': 'of a program of its own, which it ends',
  'src/kernel/netlink/events.ts': 'reading the drops catches',
  'src/kernel/netlink/conversations.ts': 'settles a promise',
  'src/kernel/nft-notices.ts': 'triggers a loop, or a look that catches',
  'src/kernel/process.ts': 'settles a promise',
  'src/kernel/rules-changes.ts': 'polling catches and logs',
  'src/kubernetes/client.ts': 'destroys a request, which tells it by an event that is handled',
  'src/leases/belief.ts': 'what it calls is guarded',
  'src/leases/conflict-watch.ts': 'triggers a loop',
  'src/leases/etcd/ownership.ts': 'triggers a loop',
  'src/leases/etcd/renewal.ts': 'triggers a loop',
  'src/leases/etcd/streams.ts': 'settles a promise',
  'src/leases/kubernetes/source.ts': 'it is guarded, and watches the file, too',
  'src/mesh/asker.ts': 'settles a promise',
  'src/mesh/mesh.ts': 'triggers a loop; the other one is guarded',
  'src/overlay/events.ts': 'triggers a loop; the other one is guarded',
  'src/pods/kernel/hostports.ts': 'repairing catches and logs',
  'src/process/ending.ts': 'ends what runs',
  'src/process/gate.ts': 'settles a promise',
  'src/process/http.ts': 'opening catches',
  'src/process/loop.ts': 'a run catches what the work throws',
  'src/process/systemd.ts': 'it is guarded, and hears of the end, too',
  'src/services/configuration-file.ts': 'looking catches and logs',
  'src/services/health-ports.ts': 'listening tells by an event, which is handled',
  'src/services/input.ts': 'triggers a loop',
  'src/services/inspection.ts': 'opening catches',
  'src/services/nftables/watch.ts': 'it is guarded',
  'src/services/node-addresses.ts': 'looking catches and logs',
  'src/services/other-proxy.ts': 'settles a promise',
  'src/services/sources/manifests.ts': 'scanning catches',
  'src/services/watch.ts': 'looking catches and logs',
};

it('what a timer calls cannot end the process', () => {
  const files = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => relative(root, join(root, 'src', name)))
    .filter((path) =>
      /\bset(Timeout|Interval)\((?!\s*(guarded|lookAfter))/.test(readFileSync(join(root, path), 'utf8')),
    )
    // Of sockets and requests: these destroy what they are about.
    .filter((path) => /(?<!\.)\bset(Timeout|Interval)\(/.test(readFileSync(join(root, path), 'utf8')));
  assert.deepEqual(
    files.filter((path) => known[path] === undefined && path !== 'src/pods/cni/server.ts'),
    [],
    'nobody stands above a timer to catch: take `guarded` of process/guarded.ts, or name here why it cannot throw',
  );
});
