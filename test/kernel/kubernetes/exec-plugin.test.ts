import assert from 'node:assert/strict';
import { chmodSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import {
  ask,
  base64,
  type Case,
  caFile,
  execFields,
  list,
  open,
  place,
  row,
  setUpCredentials,
  tearDownCredentials,
  token,
  write,
} from '../../lab/kube-credentials.ts';

before(setUpCredentials);
after(tearDownCredentials);

/** Values of the last request's headers whose names begin so, in their order. */
function lastHeaders(prefix: string): string[] {
  const { lastHeaders: all } = place.byToken;
  return all.flatMap((name, index) =>
    index % 2 === 0 && name.toLowerCase().startsWith(prefix) ? [`${name}: ${all[index + 1]}`] : [],
  );
}

test('requests are made in the name of whom the kubeconfig names', async () => {
  const of = (fields: object): Case =>
    row(
      () => place.byToken,
      caFile,
      () => ({ ...token(), ...fields }),
    );
  await ask(
    of({
      as: 'jane',
      'as-uid': '42',
      'as-groups': ['developers', 'admins'],
      'as-user-extra': { scopes: ['view', 'edit'], 'example.com/50% of': ['x'], none: [] },
    }),
  );
  assert.deepEqual(lastHeaders('impersonate-'), [
    'Impersonate-User: jane',
    'Impersonate-Uid: 42',
    'Impersonate-Group: developers',
    'Impersonate-Group: admins',
    'Impersonate-Extra-scopes: view',
    'Impersonate-Extra-scopes: edit',
    'Impersonate-Extra-example.com%2F50%25%20of: x',
  ]);
  await ask(of({ as: '', 'as-groups': [] }));
  assert.deepEqual(lastHeaders('impersonate-'), []);
});

/** A plugin beside the kubeconfig that gives a token and notes what it is told. */
function notingPlugin(status: object, more: object = {}): Case {
  const credential = { apiVersion: execFields.apiVersion, kind: 'ExecCredential', status };
  const script = [
    '#!/bin/sh',
    `printf '%s|%s|%s\\n' "$KUBERNETES_EXEC_INFO" "$REGION" "$(cat)" >>"${place.directory}/told"`,
    `echo '${JSON.stringify(credential)}'`,
  ];
  chmodSync(write('noting-plugin', `${script.join('\n')}\n`), 0o755);
  rmSync(join(place.directory, 'told'), { force: true });
  const env = [{ name: 'REGION', value: 'north' }];
  const exec = { ...execFields, command: './noting-plugin', env, ...more };
  const extensions = [
    { name: 'client.authentication.k8s.io/exec', extension: { audience: 'cluster' } },
    { name: 'else', extension: {} },
  ];
  return row(
    () => place.byToken,
    () => ({ ...caFile(), extensions }),
    () => ({ exec }),
  );
}

function told(): string[] {
  return readFileSync(join(place.directory, 'told'), 'utf8').trim().split('\n');
}

test('an exec plugin is told the cluster it is for, where it asks to be', async () => {
  await ask(notingPlugin({ token: 'secret' }, { provideClusterInfo: true }));
  const [info, region, input] = told()[0]!.split('|');
  assert.deepEqual(JSON.parse(info!), {
    kind: 'ExecCredential',
    apiVersion: 'client.authentication.k8s.io/v1',
    spec: {
      interactive: false,
      cluster: {
        server: place.byToken.url,
        'certificate-authority-data': base64(place.certificates.ca),
        config: { audience: 'cluster' },
      },
    },
  });
  assert.equal(region, 'north');
  assert.equal(input, '', 'its standard input is empty');
  await ask(notingPlugin({ token: 'secret' }, { interactiveMode: 'IfAvailable' }));
  assert.deepEqual(JSON.parse(told()[0]!.split('|')[0]!).spec, { interactive: false });
});

test('an exec plugin is run once for requests that come together, and again when what it gave has ended', async () => {
  const forever = await open(notingPlugin({ token: 'secret' }));
  await Promise.all([list(forever), list(forever), list(forever)]);
  await list(forever);
  assert.equal(told().length, 1);
  const over = await open(notingPlugin({ token: 'secret', expirationTimestamp: '2001-01-01T00:00:00Z' }));
  await list(over);
  await list(over);
  assert.equal(told().length, 2);
  // What the server does not take any more is asked for anew.
  const refused = await open(notingPlugin({ token: 'secret' }));
  await list(refused);
  place.byToken.token = 'other';
  await assert.rejects(list(refused), /401/);
  place.byToken.token = 'secret';
  await list(refused);
  assert.equal(told().length, 2);
});
