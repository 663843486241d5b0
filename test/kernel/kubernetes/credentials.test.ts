import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { KubeClient } from '../../../src/kubernetes/client.ts';
import type { KubeApi } from '../../lab/kube-api.ts';
import {
  ask,
  base64,
  type Case,
  caData,
  caFile,
  execFields,
  place,
  plugin,
  row,
  service,
  setUpCredentials,
  tearDownCredentials,
  token,
  write,
} from '../../lab/kube-credentials.ts';
import { waitFor } from '../../lab/wait.ts';

before(setUpCredentials);
after(tearDownCredentials);

describe('the API answers to', () => {
  const tokens = (): KubeApi => place.byToken;
  const certified = (): KubeApi => place.byCertificate;
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
      'client-certificate': place.certificates.client.certificate,
      'client-key': place.certificates.client.key,
    })),
    'a client certificate in the kubeconfig': row(certified, caData, () => ({
      'client-certificate-data': base64(place.certificates.client.certificate),
      'client-key-data': base64(place.certificates.client.key),
    })),
    'an authority and a client certificate in the kubeconfig, which come before files that it names': row(
      certified,
      () => ({ ...caData(), 'certificate-authority': '/nonexistent/ca' }),
      () => ({
        'client-certificate-data': base64(place.certificates.client.certificate),
        'client-certificate': '/nonexistent/certificate',
        'client-key-data': base64(place.certificates.client.key),
        'client-key': '/nonexistent/key',
      }),
    ),
    'a token from an exec plugin': row(tokens, caFile, () => plugin('plugin', { token: 'secret' })),
    'a client certificate from an exec plugin': row(certified, caFile, () =>
      plugin('plugin', {
        clientCertificateData: readFileSync(place.certificates.client.certificate, 'utf8'),
        clientKeyData: readFileSync(place.certificates.client.key, 'utf8'),
      }),
    ),
  };
  for (const [name, one] of Object.entries(rows)) {
    test(name, async () => {
      assert.equal(((await ask(one)) as { items: unknown[] }).items.length, 1);
    });
  }
});

/** A kubeconfig whose text somebody has written by hand. */
async function askByHand(text: string): Promise<unknown> {
  const kubeconfig = write('by-hand', text);
  const client = await KubeClient.open({ kubeconfig });
  return client.getJson('/api/v1/services', {}, AbortSignal.timeout(10_000));
}

test('a kubeconfig’s YAML is read as Go reads it', async () => {
  const answer = (await askByHand(`
current-context: x
contexts: [{ name: x, context: { cluster: c, user: u } }]
clusters:
- name: c
  cluster: { server: '${place.byToken.url}', insecure-skip-tls-verify: Yes }
users:
- { name: other, user: &usual { token: secret } }
- { name: u, user: { <<: *usual } }
`)) as { items: unknown[] };
  assert.equal(answer.items.length, 1);
});

test('without a user it is nobody who asks, of the server that the kubeconfig trusts', async () => {
  const asked = askByHand(`
current-context: x
contexts: [{ name: x, context: { cluster: c } }]
clusters:
- name: c
  cluster: { server: '${place.byToken.url}', certificate-authority: '${place.certificates.ca}' }
`);
  await assert.rejects(asked, /answered 401 /);
});

describe('the reason is named when', () => {
  const tokens = (): KubeApi => place.byToken;
  const certified = (): KubeApi => place.byCertificate;
  const rows: Readonly<Record<string, readonly [Case, RegExp]>> = {
    'the server’s certificate is from another authority': [
      row(tokens, () => ({ 'certificate-authority': place.strangers.ca }), token),
      /cannot reach https:.*(unable to verify|self.signed|signature)/,
    ],
    'nothing says which authority to trust': [
      row(tokens, () => ({}), token),
      /cannot reach https:.*(unable to verify|self.signed)/,
    ],
    'a proxy is none': [
      row(tokens, () => ({ ...caFile(), 'proxy-url': '192.0.2.1:3128' }), token),
      /config: its proxy-url '192.0.2.1:3128' is not of the form http:/,
    ],
    'the certificate is for another name': [
      row(tokens, () => ({ ...caFile(), 'tls-server-name': 'elsewhere' }), token),
      /elsewhere/,
    ],
    'the token is wrong': [row(tokens, caFile, () => ({ token: 'guess' })), /answered 401 .*Unauthorized/],
    'there is no client certificate': [row(certified, caFile, () => ({})), /answered 401/],
    'the client’s certificate is from another authority': [
      row(certified, caFile, () => ({
        'client-certificate': place.strangers.client.certificate,
        'client-key': place.strangers.client.key,
      })),
      /answered 401/,
    ],
    'the token file is missing': [
      row(tokens, caFile, () => ({ tokenFile: '/nonexistent/token' })),
      /cannot get credentials.*\/nonexistent\/token/,
    ],
    'the client’s key is missing': [
      row(certified, caFile, () => ({
        'client-certificate': place.certificates.client.certificate,
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
      const kubeconfig = join(place.directory, 'kubeconfig-file');
      rmSync(kubeconfig, { force: true });
      if (text !== undefined) writeFileSync(kubeconfig, text);
      await assert.rejects(KubeClient.open({ kubeconfig }), (error: Error) => {
        assert.match(`${error.message}: ${(error.cause as Error | undefined)?.message ?? ''}`, message);
        return true;
      });
    });
  }
});

test('a pod uses its service account, and the token that took the place of another', async () => {
  const account = join(place.directory, 'account');
  mkdirSync(account);
  writeFileSync(join(account, 'ca.crt'), readFileSync(place.certificates.ca));
  writeFileSync(join(account, 'token'), 'secret');
  const { hostname, port } = new URL(place.byToken.url);
  // The paths are fixed: /run of its own mount namespace has them.
  const mountPoint = '/run/secrets/kubernetes.io/serviceaccount';
  const script = `mount -t tmpfs tmpfs /run && mkdir -p ${mountPoint} && mount --bind ${account} ${mountPoint} && exec "$@"`;
  const program = [process.execPath, join(import.meta.dirname, '../../lab/kube-read.js')];
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
    await waitFor('the watches', () => place.byToken.watcherCount === 3, { explain });
    place.byToken.token = 'rotated';
    place.byToken.disconnect();
    await waitFor('a refusal', () => /answered 401/.test(log));
    place.byToken.put(service('later'));
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
