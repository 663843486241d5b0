import assert from 'node:assert/strict';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { headers, hostName, isForeign, isOwnHost } from '../../../src/agent/page/guards.ts';
import { readTraceQuery } from '../../../src/agent/page/tracing.ts';
import { root } from '../../lab/files.ts';

describe('who is answered by the page', () => {
  for (const [header, name] of [
    ['192.0.2.1:9090', '192.0.2.1'],
    ['[fd00::1]:9090', 'fd00::1'],
    ['[fd00::1]', 'fd00::1'],
    ['Node1.Example.:80', 'node1.example'],
    ['localhost', 'localhost'],
    ['a@192.0.2.1', undefined],
    ['a/192.0.2.1', undefined],
    ['192.0.2.1:1:2', undefined],
    ['', undefined],
    [undefined, undefined],
  ] as const)
    it(`reads the Host header ${header}`, () => assert.equal(hostName(header), name));

  it('goes by addresses, localhost and the names that are given, so that no other name leads to it', () => {
    const names = ['Node1', 'twill.example'];
    for (const own of ['127.0.0.1:1', '[::1]', 'localhost:9', 'NODE1:9090', 'twill.example'])
      assert.ok(isOwnHost(own, names), own);
    for (const other of [
      'evil.example',
      'node1.evil.example',
      '127.0.0.1.evil.example',
      'twill.example.evil',
      undefined,
    ])
      assert.ok(!isOwnHost(other, names), other);
  });

  it('answers what another site asks for only where a browser shows it', () => {
    for (const site of [undefined, 'none', 'same-origin']) assert.ok(!isForeign(site, '/trace'));
    for (const site of ['cross-site', 'same-site', 'anything']) {
      assert.ok(isForeign(site, '/trace'), site);
      assert.ok(isForeign(site, '/events'), site);
      assert.ok(!isForeign(site, '/'), site);
    }
  });

  it('lets no script, style or connection but its own be', () => {
    const policy = headers['content-security-policy']!;
    assert.match(policy, /^default-src 'none';/);
    assert.doesNotMatch(policy, /unsafe|data:|https?:|\*/);
    assert.match(policy, /frame-ancestors 'none'/);
  });
});

describe('what the form asks for', () => {
  it('is read', () => {
    const asked = readTraceQuery('from=shop%2Fweb&to=+10.0.0.1%3A80+&protocol=udp&from-address=');
    assert.deepEqual(asked, { from: 'shop/web', to: '10.0.0.1:80', protocol: 'udp', fromAddress: undefined });
  });

  for (const [query, says] of [
    ['', /say where the packet comes from/],
    ['from=a', /say where the packet comes from/],
    ['from=a&to=b&protocol=--probe', /'--probe' is not tcp, udp or sctp/],
    [`from=${'a'.repeat(301)}&to=b`, /'from' is no name/],
    ['from=a%00&to=b', /'from' is no name/],
    ['from=a&to=b%0a', undefined],
    ['from=a&to=b%0ac', /'to' is no name/],
  ] as const)
    it(`${says === undefined ? 'takes' : 'refuses'} ${query.slice(0, 40)}`, () => {
      if (says === undefined) readTraceQuery(query);
      else assert.throws(() => readTraceQuery(query), says);
    });
});

describe('what the page is made of', () => {
  const folder = join(root, 'dist/page');
  const files = readdirSync(folder);
  const text = (name: string): string => readFileSync(join(folder, name), 'utf8');

  it('is at most 60 kB', () => {
    const size = files.reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
    assert.ok(size <= 60_000, `${size} bytes`);
  });

  it('asks nobody else for anything, and has no script or style within the document', () => {
    const names = 'http://www.w3.org/2000/svg';
    for (const name of files)
      assert.doesNotMatch(text(name).replaceAll(names, ''), /(?:https?:)?\/\/[a-z0-9.-]+\.[a-z]/i, name);
    assert.doesNotMatch(text('index.html'), /<style|style=|<script(?! src="page\.js")|\son\w+=|javascript:/i);
    assert.doesNotMatch(text('page.js'), /innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(/);
  });
});
