import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseNetConf } from '../../../src/pods/cni/netconf.ts';
import { fieldNames } from '../../../src/pods/cni/schema.ts';

const usual = { cniVersion: '1.1.0', name: 'net', type: 'twill' };
/** What each place needs beside the field in question. */
const needed: Readonly<Record<string, object>> = {
  'ipam.routes': { dst: '10.0.0.0/8' },
};

/** A configuration with one field at a place: names on the way are spelt as `spell` does. */
function withField(
  path: string,
  name: string,
  value: unknown,
  spell: (name: string) => string,
): Readonly<Record<string, unknown>> {
  const leaf = { ...needed[path], [spell(name)]: value };
  if (path === '') return { ...usual, ...leaf };
  const names = path.split('.');
  const depth = path.endsWith('anges') ? 2 : /routes|portMappings$/.test(path) ? 1 : 0;
  let inner: unknown = leaf;
  for (let level = 0; level < depth; level++) inner = [inner];
  for (const one of names.reverse()) inner = { [spell(one)]: inner };
  return { ...usual, ...(inner as object) };
}

const places = Object.entries(fieldNames).flatMap(([path, names]) =>
  names
    .filter((name) => !(path === '' && name === 'name') && !(path === 'ipam.routes' && name === 'dst'))
    .map((name) => [path, name] as const),
);

test('null is no value, for every field and however it is spelt, as in Go', () => {
  const nothing = parseNetConf(usual);
  for (const [path, name] of places)
    for (const spell of [(text: string) => text, (text: string) => text.toUpperCase()]) {
      const config = withField(path, name, null, spell);
      // A nil list of attachments is an empty one.
      if (name.startsWith('cni.dev/'))
        assert.deepEqual(
          (parseNetConf(config) as typeof nothing & { validAttachments: unknown }).validAttachments,
          [],
        );
      else {
        const parsed = { ...(parseNetConf(config) as object), routes: [], ranges: [], cniVersion: '' };
        const expected = { ...(nothing as object), routes: [], ranges: [], cniVersion: '' };
        if (name === 'prevResult')
          assert.equal((parsed as { prevResult?: unknown }).prevResult ?? undefined, undefined);
        else assert.deepEqual(parsed, expected, `${path}.${name}: ${JSON.stringify(config)}`);
      }
    }
});

test('a host port without its numbers is Go’s zero: none; with one, the other is asked for', () => {
  const of = (mapping: object): unknown => {
    const parsed = parseNetConf({ ...usual, runtimeConfig: { portMappings: [mapping] } });
    return 'portMappings' in parsed ? parsed.portMappings : parsed;
  };
  for (const mapping of [
    {},
    { hostPort: null, containerPort: 80 },
    { HostPort: 0, ContainerPort: 0 },
    { Protocol: '' },
  ])
    assert.deepEqual(of(mapping), [], JSON.stringify(mapping));
  assert.deepEqual(of({ HOSTPORT: 80, containerport: 8080, protocol: null, HostIP: null }), [
    { hostPort: 80, containerPort: 8080, protocol: 'tcp' },
  ]);
  for (const mapping of [
    { hostPort: 80 },
    { hostPort: 80, containerPort: null },
    { hostPort: 80, ContainerPort: 0 },
  ])
    assert.throws(() => of(mapping), /portMappings.*containerPort/s, JSON.stringify(mapping));
});
