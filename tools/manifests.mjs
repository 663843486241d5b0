// Cuts daemonset.yaml, which is applied as it is, into the parts that the overlays in manifests/ are made of: kustomize
// reads nothing outside of its folders, and that of Debian's kubectl cannot take whole objects away. A test holds that the
// parts are what this makes: node tools/manifests.mjs
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';

const root = dirname(import.meta.dirname);
const head = '# Made from daemonset.yaml by tools/manifests.mjs: change it there.\n';

/** Which part an object belongs to. */
function partOf(text) {
  const [, kind] = /^kind: (\w+)$/m.exec(text);
  const [, name] = /^ {2}name: ([\w-]+)$/m.exec(text);
  if (name === 'twill-proxy') return 'proxy';
  return /^(Cluster)?Role(Binding)?$|^ValidatingAdmission/.test(kind) ? 'node-leases' : 'agent';
}

/** @returns the text of each part's file, by the part's name */
export function manifestParts() {
  const text = readFileSync(join(root, 'daemonset.yaml'), 'utf8');
  // The file's own comment ends where its first object begins.
  const objects = text.slice(text.indexOf('apiVersion:')).split('---\n');
  const parts = { agent: [], 'node-leases': [], proxy: [] };
  for (const object of objects) parts[partOf(object)].push(object);
  return Object.fromEntries(Object.entries(parts).map(([name, texts]) => [name, head + texts.join('---\n')]));
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  for (const [name, text] of Object.entries(manifestParts())) {
    const folder = join(root, 'manifests/parts', name);
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'manifest.yaml'), text);
    const kustomization = { apiVersion: 'kustomize.config.k8s.io/v1beta1', kind: 'Kustomization' };
    const lines = Object.entries(kustomization).map(([key, value]) => `${key}: ${value}\n`);
    writeFileSync(join(folder, 'kustomization.yaml'), `${lines.join('')}resources:\n  - manifest.yaml\n`);
  }
}
