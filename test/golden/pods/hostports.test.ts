import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { type Family, ipv4, ipv6 } from '../../../src/model/address.ts';
import { hostPortRules, repairDocument, replaceDocument } from '../../../src/pods/plan/hostports.ts';
import { hostPortPods as pods } from '../../lab/hostport-pods.ts';
import { checkReferences } from '../../lab/rules.ts';

// The compiled tests run in build/test; the documents lie beside the sources. UPDATE_GOLDEN=1 writes them anew.
const folder = join(import.meta.dirname, '../../../../test/golden/pods');

function compare(name: string, text: string): void {
  const path = join(folder, `${name}.golden`);
  if (process.env.UPDATE_GOLDEN === '1') writeFileSync(path, text);
  assert.ok(existsSync(path), `${path} is missing`);
  assert.equal(text, readFileSync(path, 'utf8'));
}

const emptyTable =
  '*nat\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\nCOMMIT\n';

/** The table after the document, as far as these documents go: declared chains are emptied, -A appends, -I comes first. */
function applied(saved: string, document: string): string {
  const chains = new Map<string, string[]>();
  for (const line of [...saved.split('\n'), ...document.split('\n')]) {
    const [, declared] = /^:(\S+)/.exec(line) ?? [];
    const [, appended] = /^-A (\S+)/.exec(line) ?? [];
    if (declared !== undefined) chains.set(declared, []);
    if (appended !== undefined) chains.get(appended)?.push(line);
    const [, inserted] = /^-I (\S+) 1 /.exec(line) ?? [];
    if (inserted !== undefined) chains.get(inserted)?.unshift(line.replace(/^-I (\S+) 1 /, '-A $1 '));
  }
  const headers = [...chains.keys()].map((chain) => `:${chain} - [0:0]`);
  return ['*nat', ...headers, ...[...chains.values()].flat(), 'COMMIT', ''].join('\n');
}

for (const family of [ipv4, ipv6] as Family[]) {
  test(`host ports, ${family.kubeName}: the first document has everything, and then nothing is to be done`, () => {
    const rules = hostPortRules(pods, family);
    const document = repairDocument(emptyTable, rules)!;
    checkReferences(document);
    compare(`hostports.${family.name}`, document);
    assert.equal(repairDocument(applied(emptyTable, document), rules), undefined);
  });
}

const jump = '-A CNI-HOSTPORT-DNAT -j CNI-HOSTPORT-TWILL';

test('a flushed chain, a missing entry and a missing mark are put back, and nothing else is touched', () => {
  const rules = hostPortRules(pods, ipv4);
  const standing = applied(emptyTable, repairDocument(emptyTable, rules)!);
  const foreign = standing.replace(
    'COMMIT',
    '-A CNI-HOSTPORT-DNAT -p tcp -m tcp --dport 1 -j CNI-DN-foreign\nCOMMIT',
  );
  assert.equal(repairDocument(foreign, rules), undefined);
  for (const lost of [
    '-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT',
    jump,
    '-A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE',
    rules[0]!,
  ]) {
    const document = repairDocument(foreign.replace(`${lost}\n`, ''), rules)!;
    const first = lost === jump ? '-I CNI-HOSTPORT-DNAT 1 -j CNI-HOSTPORT-TWILL' : lost;
    assert.ok(document.includes(`${first}\n`), lost);
    assert.doesNotMatch(document, /:CNI-HOSTPORT-DNAT/, 'a chain that others use is not flushed');
  }
});

test('our rules come before those of the plugin, which an older pod may have', () => {
  const rules = hostPortRules(pods, ipv4);
  const standing = applied(emptyTable, repairDocument(emptyTable, rules)!);
  const foreign = '-A CNI-HOSTPORT-DNAT -p tcp -m tcp --dport 1 -j CNI-DN-foreign';
  const behind = standing.replace(jump, `${foreign}\n${jump}`);
  const document = repairDocument(behind, rules)!;
  const moves = document.split('\n').filter((line) => / CNI-HOSTPORT-DNAT .*TWILL$/.test(line));
  assert.deepEqual(moves, [
    '-D CNI-HOSTPORT-DNAT -j CNI-HOSTPORT-TWILL',
    '-I CNI-HOSTPORT-DNAT 1 -j CNI-HOSTPORT-TWILL',
  ]);
});

test('the last host port takes our chain away and leaves the plugin’s', () => {
  const standing = applied(emptyTable, repairDocument(emptyTable, hostPortRules(pods, ipv4))!);
  const document = repairDocument(standing, [])!;
  assert.equal(
    document,
    '*nat\n:CNI-HOSTPORT-TWILL - [0:0]\n-D CNI-HOSTPORT-DNAT -j CNI-HOSTPORT-TWILL\n-X CNI-HOSTPORT-TWILL\nCOMMIT\n',
  );
  assert.equal(repairDocument(emptyTable, []), undefined);
});

test('a change of known rules is one chain in one document', () => {
  const rules = hostPortRules([pods[0]!], ipv4);
  assert.equal(replaceDocument(rules), `*nat\n:CNI-HOSTPORT-TWILL - [0:0]\n${rules.join('\n')}\nCOMMIT\n`);
});
