/** Two API servers that ask for credentials, and kubeconfigs to reach them with. */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KubeClient } from '../../src/kubernetes/client.ts';
import { type Certificates, makeCertificates } from './certificates.ts';
import { type ApiObject, KubeApi } from './kube-api.ts';
import { serviceObject } from './service-fixtures.ts';

interface CredentialPlace {
  directory: string;
  certificates: Certificates;
  /** Another authority, which signed nothing of the server's. */
  strangers: Certificates;
  /** Asks for a token. */
  byToken: KubeApi;
  /** Asks for a client certificate. */
  byCertificate: KubeApi;
}

/** Filled by {@link setUpCredentials}. */
export const place = {} as CredentialPlace;

export async function setUpCredentials(): Promise<void> {
  place.directory = mkdtempSync(join(tmpdir(), 'twill-credentials-'));
  const own = join(place.directory, 'own');
  const other = join(place.directory, 'other');
  for (const folder of [own, other]) mkdirSync(folder);
  place.certificates = await makeCertificates(own, ['127.0.0.1']);
  place.strangers = await makeCertificates(other, ['127.0.0.1']);
  const { ca, server } = place.certificates;
  const tls = { ca: readFileSync(ca), cert: readFileSync(server.certificate), key: readFileSync(server.key) };
  place.byToken = await KubeApi.start(0, '127.0.0.1', tls);
  place.byToken.token = 'secret';
  place.byCertificate = await KubeApi.start(0, '127.0.0.1', {
    ...tls,
    requestCert: true,
    rejectUnauthorized: false,
  });
  for (const api of [place.byToken, place.byCertificate]) api.put(service('web'));
}

export async function tearDownCredentials(): Promise<void> {
  await place.byToken.stop();
  await place.byCertificate.stop();
  rmSync(place.directory, { recursive: true });
}

export function service(name: string): ApiObject {
  return serviceObject(`shop/${name}`, {
    clusterIP: '10.96.0.10',
    ports: [{ port: 80 }],
  }) as unknown as ApiObject;
}

export function write(name: string, text: string): string {
  const path = join(place.directory, name);
  writeFileSync(path, text);
  return path;
}

export function base64(path: string): string {
  return readFileSync(path).toString('base64');
}

export const execFields = {
  apiVersion: 'client.authentication.k8s.io/v1',
  args: [],
  interactiveMode: 'Never',
};

/** An exec plugin that answers with this status. */
export function plugin(name: string, status: object): Record<string, unknown> {
  const credential = { apiVersion: execFields.apiVersion, kind: 'ExecCredential', status };
  const command = write(name, `#!/bin/sh\ncat <<'END'\n${JSON.stringify(credential)}\nEND\n`);
  chmodSync(command, 0o755);
  return { exec: { ...execFields, command } };
}

export interface Case {
  readonly api: () => KubeApi;
  readonly cluster: () => Record<string, unknown>;
  readonly user: () => Record<string, unknown>;
}

export async function open({ api, cluster, user }: Case): Promise<KubeClient> {
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

export function list(client: KubeClient): Promise<unknown> {
  return client.getJson('/api/v1/services', {}, AbortSignal.timeout(10_000));
}

export async function ask(one: Case): Promise<unknown> {
  return list(await open(one));
}

export const caFile = (): object => ({ 'certificate-authority': place.certificates.ca });
export const caData = (): object => ({ 'certificate-authority-data': base64(place.certificates.ca) });
export const token = (): object => ({ token: 'secret' });

export function row(api: () => KubeApi, cluster: () => object, user: () => object): Case {
  return { api, cluster: cluster as Case['cluster'], user: user as Case['user'] };
}
