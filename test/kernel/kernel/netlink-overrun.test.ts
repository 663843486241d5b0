import assert from 'node:assert/strict';
import { join } from 'node:path';
import { it } from 'node:test';
import { withNamespace } from '../../lab/namespace.ts';

const eventsModule = join(import.meta.dirname, '../../../src/kernel/netlink/events.js');

/** Listens, is too busy to read while 40,000 routes come and go, and waits to be told that it missed some. */
const listener = `
  const { EventSocket } = await import(${JSON.stringify(eventsModule)});
  const { execFileSync } = await import('node:child_process');
  let heard;
  const lost = new Promise((onLost) => new EventSocket({ groups: [7], onEvent: () => heard?.(), onLost }));
  const route = (verb, i) => 'route ' + verb + ' 10.' + (i >> 8) + '.' + (i & 255) + '.0/24 dev dummy0';
  const commands = (verb) => Array.from({ length: 20000 }, (_, i) => route(verb, i)).join('\\n') + '\\n';
  execFileSync('ip', ['-batch', '-'], { input: commands('add') + commands('delete') });
  const error = await lost;
  console.log(error.code);
  const again = new Promise((resolve) => (heard = resolve));
  execFileSync('ip', ['-batch', '-'], { input: route('add', 1) + '\\n' });
  await again;
  console.log('still listening');
  process.exit(0);
`;

it('a listener that is overrun is told so and goes on', async () => {
  await withNamespace('overrun', async (namespace) => {
    await namespace.ip('link add dummy0 type bridge', 'link set dummy0 up');
    const output = await namespace.exec(process.execPath, ['--input-type=module', '-e', listener]);
    assert.equal(output, 'unavailable\nstill listening\n');
  });
});
