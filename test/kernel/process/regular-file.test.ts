import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { run } from '../../../src/kernel/process.ts';
import { readRegularFile } from '../../../src/process/regular-file.ts';
import { ManifestSource } from '../../../src/services/sources/manifests.ts';
import { withCniNode } from '../../lab/cni-node.ts';
import { serviceObject } from '../../lab/service-fixtures.ts';

describe('files whose names somebody else chose', () => {
  let directory = '';
  const at = (name: string): string => join(directory, name);

  before(async () => {
    directory = mkdtempSync(join(tmpdir(), 'twill-regular-'));
    assert.equal((await run('mkfifo', [at('pipe.yaml')])).status, 0);
    symlinkSync('/dev/zero', at('zero.yaml'));
    symlinkSync('loop.yaml', at('loop.yaml'));
    mkdirSync(at('folder.yaml'));
    writeFileSync(at('huge.yaml'), '');
    truncateSync(at('huge.yaml'), 2 ** 33);
    writeFileSync(at('good.yaml'), JSON.stringify(serviceObject('shop/web', { clusterIP: '10.96.0.10' })));
    writeFileSync(at('deep.yaml'), '['.repeat(5000));
    const bomb = Array.from(
      { length: 30 },
      (_, level) => `a${level}: &a${level} [${level === 0 ? 'x' : `*a${level - 1}, *a${level - 1}`}]`,
    );
    writeFileSync(at('bomb.yaml'), bomb.join('\n'));
  });
  after(() => rmSync(directory, { recursive: true, force: true }));

  it('named pipes, devices, folders and what is too big are not read, and named', () => {
    for (const [name, why] of [
      ['pipe.yaml', /pipe\.yaml' is no regular file/],
      ['zero.yaml', /zero\.yaml' is no regular file/],
      ['folder.yaml', /no regular file/],
      ['loop.yaml', /ELOOP/],
      ['huge.yaml', /8589934592 bytes: more than/],
      ['missing', /ENOENT/],
    ] as const)
      assert.throws(() => readRegularFile(at(name)), why);
    assert.match(readRegularFile('/proc/self/status'), /^Name:/);
  });

  it('manifests beside them are served', async () => {
    const source = new ManifestSource(directory, 'node1');
    const skipped = new Map<string, string>();
    const services: string[] = [];
    await source.start({
      replace: (kind: string, values: readonly { name: string }[]) => {
        if (kind === 'service') services.push(...values.map(({ name }) => name));
      },
      skipped: (name: string, reason: string) => skipped.set(name.slice(directory.length + 1), reason),
      node: () => {},
    } as never);
    await source.stop();
    assert.deepEqual(services, ['web']);
    for (const name of [
      'pipe.yaml',
      'zero.yaml',
      'huge.yaml',
      'folder.yaml',
      'loop.yaml',
      'deep.yaml',
      'bomb.yaml',
    ])
      assert.ok(skipped.has(name), `${name} is named: ${[...skipped.keys()].join()}`);
  });

  it('a network configuration that names such a file for the resolver is refused, and the next one served', async () => {
    await withCniNode(async (node) => {
      for (const name of ['pipe.yaml', 'zero.yaml', 'huge.yaml']) {
        const { call } = await node.container({ ipam: { type: 'host-local', resolvConf: at(name) } });
        const { status, json } = await call('ADD');
        assert.deepEqual([status, json?.code], [1, 7], JSON.stringify(json));
      }
      await node.added();
    });
  });
});
