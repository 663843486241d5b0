import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { KubeClient } from '../../src/store/kube-client.ts';
import { type Certificates, makeCertificates } from '../lab/certificates.ts';
import { type ApiObject, KubeApi } from '../lab/kube-api.ts';
import { serviceObject } from '../lab/service-fixtures.ts';
import { waitFor } from '../lab/wait.ts';

let directory: string;
let certificates: Certificates;
/** Another authority, which signed nothing of the server's. */
let strangers: Certificates;
/** Asks for a token, and for a client certificate. */
let byToken: KubeApi;
let byCertificate: KubeApi;

before(async () => {
  directory = mkdtempSync(join(tmpdir(), 'twill-credentials-'));
  const own = join(directory, 'own');
  const other = join(directory, 'other');
  for (const folder of [own, other]) mkdirSync(folder);
  certificates = await makeCertificates(own, ['127.0.0.1']);
  strangers = await makeCertificates(other, ['127.0.0.1']);
  const { ca, server } = certificates;
  const tls = { ca: readFileSync(ca), cert: readFileSync(server.certificate), key: readFileSync(server.key) };
  byToken = await KubeApi.start(0, '127.0.0.1', tls);
  byToken.token = 'secret';
  byCertificate = await KubeApi.start(0, '127.0.0.1', {
    ...tls,
    requestCert: true,
    rejectUnauthorized: false,
  });
  for (const api of [byToken, byCertificate]) api.put(service('web'));
});

after(async () => {
  await byToken.stop();
  await byCertificate.stop();
  rmSync(directory, { recursive: true });
});

function service(name: string): ApiObject {
  return serviceObject(`shop/${name}`, {
    clusterIP: '10.96.0.10',
    ports: [{ port: 80 }],
  }) as unknown as ApiObject;
}

function write(name: string, text: string): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
}

function base64(path: string): string {
  return readFileSync(path).toString('base64');
}

const execFields = {
  apiVersion: 'client.authentication.k8s.io/v1',
  args: [],
  interactiveMode: 'Never',
};

/** An exec plugin that answers with this status. */
function plugin(name: string, status: object): Record<string, unknown> {
  const credential = { apiVersion: execFields.apiVersion, kind: 'ExecCredential', status };
  const command = write(name, `#!/bin/sh\ncat <<'END'\n${JSON.stringify(credential)}\nEND\n`);
  chmodSync(command, 0o755);
  return { exec: { ...execFields, command } };
}

interface Case {
  readonly api: () => KubeApi;
  readonly cluster: () => Record<string, unknown>;
  readonly user: () => Record<string, unknown>;
}

async function open({ api, cluster, user }: Case): Promise<KubeClient> {
  const kubeconfig = write(
    'config',
    JSON.stringify({
      clusters: [{ name: 'c', cluster: { server: api().url, ...cluster() } }],
      users: [{ name: 'u', user: user() }],
      contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
      'current-context': 'x',
    }),
  );
  return KubeClient.open({ kubeconfig });
}

function list(client: KubeClient): Promise<unknown> {
  return client.getJson('/api/v1/services', {}, AbortSignal.timeout(10_000));
}

async function ask(one: Case): Promise<unknown> {
  return list(await open(one));
}

const caFile = (): object => ({ 'certificate-authority': certificates.ca });
const caData = (): object => ({ 'certificate-authority-data': base64(certificates.ca) });
const token = (): object => ({ token: 'secret' });

function row(api: () => KubeApi, cluster: () => object, user: () => object): Case {
  return { api, cluster: cluster as Case['cluster'], user: user as Case['user'] };
}

describe('the API answers to', () => {
  const tokens = (): KubeApi => byToken;
  const certified = (): KubeApi => byCertificate;
  const rows: Readonly<Record<string, Case>> = {
    'a token, the authority in a file': row(tokens, caFile, token),
    'a token, the authority in the kubeconfig': row(tokens, caData, token),
    'a token, the server not being verified': row(
      tokens,
      () => ({ 'insecure-skip-tls-verify': true }),
      token,
    ),
    'a token in a file, with a newline, beside the kubeconfig': row(tokens, caFile, () => {
      write('token', 'secret\n');
      return { tokenFile: 'token' };
    }),
    'a client certificate in files': row(certified, caFile, () => ({
      'client-certificate': certificates.client.certificate,
      'client-key': certificates.client.key,
    })),
    'a client certificate in the kubeconfig': row(certified, caData, () => ({
      'client-certificate-data': base64(certificates.client.certificate),
      'client-key-data': base64(certificates.client.key),
    })),
    'a token from an exec plugin': row(tokens, caFile, () => plugin('plugin', { token: 'secret' })),
    'a client certificate from an exec plugin': row(certified, caFile, () =>
      plugin('plugin', {
        clientCertificateData: readFileSync(certificates.client.certificate, 'utf8'),
        clientKeyData: readFileSync(certificates.client.key, 'utf8'),
      }),
    ),
  };
  for (const [name, one] of Object.entries(rows)) {
    test(name, async () => {
      assert.equal(((await ask(one)) as { items: unknown[] }).items.length, 1);
    });
  }
});

describe('the reason is named when', () => {
  const tokens = (): KubeApi => byToken;
  const certified = (): KubeApi => byCertificate;
  const rows: Readonly<Record<string, readonly [Case, RegExp]>> = {
    'the server’s certificate is from another authority': [
      row(tokens, () => ({ 'certificate-authority': strangers.ca }), token),
      /cannot reach https:.*(unable to verify|self.signed|signature)/,
    ],
    'nothing says which authority to trust': [
      row(tokens, () => ({}), token),
      /cannot reach https:.*(unable to verify|self.signed)/,
    ],
    'the certificate is for another name': [
      row(tokens, () => ({ ...caFile(), 'tls-server-name': 'elsewhere' }), token),
      /elsewhere/,
    ],
    'the token is wrong': [row(tokens, caFile, () => ({ token: 'guess' })), /answered 401 .*Unauthorized/],
    'there is no client certificate': [row(certified, caFile, () => ({})), /answered 401/],
    'the client’s certificate is from another authority': [
      row(certified, caFile, () => ({
        'client-certificate': strangers.client.certificate,
        'client-key': strangers.client.key,
      })),
      /answered 401/,
    ],
    'the token file is missing': [
      row(tokens, caFile, () => ({ tokenFile: '/nonexistent/token' })),
      /cannot get credentials.*\/nonexistent\/token/,
    ],
    'the client’s key is missing': [
      row(certified, caFile, () => ({
        'client-certificate': certificates.client.certificate,
        'client-key': '/nonexistent/key',
      })),
      /cannot get credentials.*\/nonexistent\/key/,
    ],
    'the exec plugin is missing': [
      row(tokens, caFile, () => ({
        exec: { ...execFields, command: '/nonexistent/plugin', installHint: 'install it' },
      })),
      /cannot get credentials.*\/nonexistent\/plugin.*install it/,
    ],
    'the exec plugin gives neither a token nor a certificate': [
      row(tokens, caFile, () => plugin('plugin', { clientKeyData: '' })),
      /cannot get credentials.*plugin gave neither a token nor a certificate/,
    ],
    'the exec plugin gives a certificate without a key': [
      row(tokens, caFile, () => plugin('plugin', { clientCertificateData: 'x' })),
      /cannot get credentials.*plugin gave a certificate or a key/,
    ],
    'the exec plugin answers in another version': [
      row(tokens, caFile, () => {
        const { exec } = plugin('plugin', { token: 'secret' }) as { exec: object };
        return { exec: { ...exec, apiVersion: 'client.authentication.k8s.io/v1beta1' } };
      }),
      /answered in version .*\/v1, configured is .*\/v1beta1/,
    ],
    'the exec plugin wants a terminal': [
      row(tokens, caFile, () => {
        const { exec } = plugin('plugin', { token: 'secret' }) as { exec: object };
        return { exec: { ...exec, interactiveMode: 'Always' } };
      }),
      /interactiveMode is 'Always', and standard input is not a terminal/,
    ],
    'the exec plugin has no version': [
      row(tokens, caFile, () => ({ exec: { command: 'true' } })),
      /config: user 'u': exec: apiVersion is missing/,
    ],
    'the exec plugin is of an old version': [
      row(tokens, caFile, () => ({
        exec: { ...execFields, command: 'true', apiVersion: 'client.authentication.k8s.io/v1alpha1' },
      })),
      /apiVersion .*v1alpha1' is not one of/,
    ],
    'nothing says whether the exec plugin may ask': [
      row(tokens, caFile, () => ({ exec: { ...execFields, command: 'true', interactiveMode: undefined } })),
      /user 'u': exec: interactiveMode is missing/,
    ],
    'there are groups to be in, but nobody to be': [
      row(tokens, caFile, () => ({ ...token(), 'as-groups': ['admins'] })),
      /config: user 'u': as-uid, as-groups and as-user-extra need as/,
    ],
    'somebody to be has a name no header can have': [
      row(tokens, caFile, () => ({ ...token(), as: 'a\nb' })),
      /user 'u': as and its companions have characters/,
    ],
    'the exec plugin fails': [
      row(tokens, caFile, () => {
        const command = write('plugin', '#!/bin/sh\necho no luck >&2\nexit 3\n');
        chmodSync(command, 0o755);
        return { exec: { ...execFields, command } };
      }),
      /cannot get credentials.*(no luck|3)/,
    ],
  };
  for (const [name, [one, message]] of Object.entries(rows)) {
    test(name, async () => {
      await assert.rejects(ask(one), (error: Error) => {
        const text = `${error.message}: ${(error.cause as Error | undefined)?.message ?? ''}`;
        assert.match(text, message);
        return true;
      });
    });
  }

  const files: Readonly<Record<string, readonly [text: string | undefined, message: RegExp]>> = {
    'there is no such kubeconfig': [undefined, /kubeconfig-file.*ENOENT/],
    'the kubeconfig is empty': ['', /kubeconfig-file/],
    'the kubeconfig is not YAML': ['{', /kubeconfig-file/],
    'the kubeconfig has no current context': [
      JSON.stringify({ clusters: [], users: [], contexts: [] }),
      /kubeconfig-file: names no cluster/,
    ],
    'the context’s user is missing': [
      JSON.stringify({
        clusters: [{ name: 'c', cluster: { server: 'https://127.0.0.1:1' } }],
        users: [],
        contexts: [{ name: 'x', context: { cluster: 'c', user: 'nobody' } }],
        'current-context': 'x',
      }),
      /kubeconfig-file: its context names the user 'nobody'/,
    ],
  };
  for (const [name, [text, message]] of Object.entries(files)) {
    test(name, async () => {
      const kubeconfig = join(directory, 'kubeconfig-file');
      rmSync(kubeconfig, { force: true });
      if (text !== undefined) writeFileSync(kubeconfig, text);
      await assert.rejects(KubeClient.open({ kubeconfig }), (error: Error) => {
        assert.match(`${error.message}: ${(error.cause as Error | undefined)?.message ?? ''}`, message);
        return true;
      });
    });
  }
});

/** Values of the last request's headers whose names begin so, in their order. */
function lastHeaders(prefix: string): string[] {
  const { lastHeaders: all } = byToken;
  return all.flatMap((name, index) =>
    index % 2 === 0 && name.toLowerCase().startsWith(prefix) ? [`${name}: ${all[index + 1]}`] : [],
  );
}

test('requests are made in the name of whom the kubeconfig names', async () => {
  const of = (fields: object): Case =>
    row(
      () => byToken,
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
    `printf '%s|%s|%s\\n' "$KUBERNETES_EXEC_INFO" "$REGION" "$(cat)" >>"${directory}/told"`,
    `echo '${JSON.stringify(credential)}'`,
  ];
  chmodSync(write('noting-plugin', `${script.join('\n')}\n`), 0o755);
  rmSync(join(directory, 'told'), { force: true });
  const env = [{ name: 'REGION', value: 'north' }];
  const exec = { ...execFields, command: './noting-plugin', env, ...more };
  const extensions = [
    { name: 'client.authentication.k8s.io/exec', extension: { audience: 'cluster' } },
    { name: 'else', extension: {} },
  ];
  return row(
    () => byToken,
    () => ({ ...caFile(), extensions }),
    () => ({ exec }),
  );
}

function told(): string[] {
  return readFileSync(join(directory, 'told'), 'utf8').trim().split('\n');
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
        server: byToken.url,
        'certificate-authority-data': base64(certificates.ca),
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
  byToken.token = 'other';
  await assert.rejects(list(refused), /401/);
  byToken.token = 'secret';
  await list(refused);
  assert.equal(told().length, 2);
});

test('a pod uses its service account, and the token that took the place of another', async () => {
  const account = join(directory, 'account');
  mkdirSync(account);
  writeFileSync(join(account, 'ca.crt'), readFileSync(certificates.ca));
  writeFileSync(join(account, 'token'), 'secret');
  const { hostname, port } = new URL(byToken.url);
  // The paths are fixed: /run of its own mount namespace has them.
  const place = '/run/secrets/kubernetes.io/serviceaccount';
  const script = `mount -t tmpfs tmpfs /run && mkdir -p ${place} && mount --bind ${account} ${place} && exec "$@"`;
  const program = [process.execPath, join(import.meta.dirname, '../lab/kube-read.js')];
  const child = spawn('unshare', ['-m', 'sh', '-c', script, 'sh', ...program], {
    env: {
      PATH: process.env.PATH,
      HOME: '/nonexistent',
      KUBERNETES_SERVICE_HOST: hostname,
      KUBERNETES_SERVICE_PORT: port,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  try {
    let seen = '';
    let log = '';
    child.stdout.on('data', (data) => {
      seen = String(data).trim().split('\n').at(-1)!;
    });
    child.stderr.on('data', (data) => {
      log += String(data);
    });
    const explain = (): string => log;
    await waitFor('the Service', () => seen === '["shop/web"]', { explain });
    await waitFor('the watches', () => byToken.watcherCount === 3, { explain });
    byToken.token = 'rotated';
    byToken.disconnect();
    await waitFor('a refusal', () => /answered 401/.test(log));
    byToken.put(service('later'));
    // As the kubelet does it: the new file takes the place of the old one at once.
    writeFileSync(join(account, 'token.new'), 'rotated\n');
    renameSync(join(account, 'token.new'), join(account, 'token'));
    await waitFor('the later Service', () => seen === '["shop/later","shop/web"]', { explain });
  } finally {
    const ended = once(child, 'exit');
    child.kill();
    await ended;
  }
});
