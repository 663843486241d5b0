// What is in the image beside Debian's packages, as CycloneDX: for scanners, which find Debian's in dpkg's own list.
// https://cyclonedx.org/docs/1.5/json/
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The folder of the package that a file belongs to, below the repository; undefined for a file of ours. */
export function packageOf(file) {
  return /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(file)?.[1];
}

/**
 * @param files paths below `root`, of what is bundled and of what is shipped beside it
 * @param others packages that are in the result in another form: name and version
 */
export function sbom(root, files, others) {
  const describe = (folder) => JSON.parse(readFileSync(join(root, folder, 'package.json'), 'utf8'));
  const folders = [...new Set(files.map(packageOf).filter((folder) => folder !== undefined))].sort();
  const component = ({ name, version, license }) => ({
    type: 'library',
    name,
    version,
    ...(license === undefined ? {} : { licenses: [{ expression: license }] }),
    purl: `pkg:npm/${name.replace('@', '%40')}@${version}`,
  });
  const { name, version, license } = describe('.');
  return {
    bomFormat: 'CycloneDX',
    specVersion: '1.5',
    version: 1,
    metadata: { component: { ...component({ name, version, license }), type: 'application' } },
    components: [...folders.map(describe), ...others.map((folder) => describe(folder))].map(component),
  };
}

/** The list of this machine's architecture as that of another: of the same versions, packages with its binaries. */
export function sbomFor(architecture, list) {
  const [own, other] = [process.arch, architecture].map((name) => [name, name === 'x64' ? 'x64' : 'aarch64']);
  return list
    .replaceAll(`koffi-linux-${own[0]}`, `koffi-linux-${other[0]}`)
    .replaceAll(`bun-linux-${own[1]}`, `bun-linux-${other[1]}`);
}
