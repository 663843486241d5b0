import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runChecked } from '../../src/kernel/process.ts';

/** Paths of PEM files. */
export interface Certificates {
  readonly ca: string;
  readonly server: { readonly certificate: string; readonly key: string };
  readonly client: { readonly certificate: string; readonly key: string };
}

async function openssl(directory: string, ...args: string[]): Promise<void> {
  await runChecked(
    'openssl',
    args.map((arg) => (arg.endsWith('.pem') ? join(directory, arg) : arg)),
  );
}

async function issue(directory: string, name: string, extensions: string): Promise<void> {
  const file = join(directory, `${name}.cnf`);
  writeFileSync(file, extensions);
  const newKey = [
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    '-keyout',
    `${name}.key.pem`,
  ];
  await openssl(directory, 'req', ...newKey, '-subj', `/CN=${name}`, '-out', `${name}.request.pem`);
  const signing = [
    '-CA',
    'ca.pem',
    '-CAkey',
    'ca.key.pem',
    '-CAcreateserial',
    '-days',
    '2',
    '-extfile',
    file,
  ];
  await openssl(directory, 'x509', '-req', '-in', `${name}.request.pem`, ...signing, '-out', `${name}.pem`);
}

/** A certificate authority of the lab's own, a server certificate for these addresses, and a client certificate. */
export async function makeCertificates(
  directory: string,
  addresses: readonly string[],
): Promise<Certificates> {
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  const authority = [
    '-x509',
    ...curve,
    '-subj',
    '/CN=lab',
    '-days',
    '2',
    '-keyout',
    'ca.key.pem',
    '-out',
    'ca.pem',
  ];
  await openssl(directory, 'req', ...authority);
  const names = addresses.map((address) => `IP:${address}`).join(',');
  await issue(directory, 'server', `subjectAltName=${names}\nextendedKeyUsage=serverAuth,clientAuth\n`);
  await issue(directory, 'client', 'extendedKeyUsage=clientAuth\n');
  const pair = (name: string): { certificate: string; key: string } => ({
    certificate: join(directory, `${name}.pem`),
    key: join(directory, `${name}.key.pem`),
  });
  return { ca: join(directory, 'ca.pem'), server: pair('server'), client: pair('client') };
}
