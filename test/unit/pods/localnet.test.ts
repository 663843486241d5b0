import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { TwillError } from '../../../src/model/error.ts';
import { Localnet } from '../../../src/pods/kernel/localnet.ts';

const setting = (bridge: string): string => `net/ipv4/conf/${bridge}/route_localnet`;

describe('routing to loopback on bridges', () => {
  let stateDir = '';
  let events: string[] = [];
  const values = new Map<string, string>();
  const sysctls = {
    read: (name: string) => values.get(name),
    write: (name: string, value: string) => {
      if (!values.has(name)) throw new TwillError('not-found', name);
      events.push(`${name}=${value}`);
      values.set(name, value);
      return true;
    },
  };
  const guard = async (): Promise<void> => {
    events.push('guard');
  };
  const make = (guarded = guard): Localnet => new Localnet(stateDir, guarded, sysctls);

  beforeEach(() => {
    stateDir = mkdtempSync(join(tmpdir(), 'twill-localnet-'));
    events = [];
    values.clear();
    for (const bridge of ['cni0', 'br1']) values.set(setting(bridge), '0');
  });
  afterEach(() => rmSync(stateDir, { recursive: true }));

  it('is opened behind the guard', async () => {
    await make().ensure(new Set(['cni0']));
    assert.deepEqual(events, ['guard', `${setting('cni0')}=1`]);
  });

  it('stays closed while the guard does not stand', async () => {
    const refusing = (): Promise<void> => Promise.reject(new TwillError('unavailable', 'not yet'));
    await assert.rejects(make(refusing).ensure(new Set(['cni0'])), /not yet/);
    assert.deepEqual(events, []);
    await make().ensure(new Set());
    assert.deepEqual(events, []);
  });

  it('is closed when it is not needed any more, also by a later run', async () => {
    await make().ensure(new Set(['cni0', 'br1']));
    const later = make();
    await later.ensure(new Set(['br1']));
    assert.deepEqual([values.get(setting('cni0')), values.get(setting('br1'))], ['0', '1']);
    await make().ensure(new Set());
    assert.equal(values.get(setting('br1')), '0');
  });

  it('is left alone where somebody else has opened it', async () => {
    values.set(setting('cni0'), '1');
    await make().ensure(new Set(['cni0']));
    await make().ensure(new Set());
    assert.equal(values.get(setting('cni0')), '1');
    assert.deepEqual(events, []);
  });

  it('a bridge that is gone is forgotten', async () => {
    await make().ensure(new Set(['cni0']));
    values.delete(setting('cni0'));
    await make().ensure(new Set());
    values.set(setting('cni0'), '1');
    await make().ensure(new Set());
    assert.equal(values.get(setting('cni0')), '1');
  });
});
