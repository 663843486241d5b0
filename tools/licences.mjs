// The licences of what is bundled: most of them ask to go along with every copy.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageOf } from './sbom.mjs';

/** @param files the paths of what is bundled, below `root`. @returns one text of all their packages' licences */
export function licences(root, files) {
  const folders = [...new Set(files.map(packageOf).filter((folder) => folder !== undefined))].sort();
  const texts = folders.map((folder) => {
    const { name, version, license } = JSON.parse(readFileSync(join(root, folder, 'package.json'), 'utf8'));
    const file = readdirSync(join(root, folder)).find((entry) => /^(licen[cs]e|copying)/i.test(entry));
    const text = file === undefined ? '' : `\n\n${readFileSync(join(root, folder, file), 'utf8').trim()}`;
    return `${name} ${version}: ${license}${text}\n`;
  });
  return texts.join(`\n${'-'.repeat(80)}\n\n`);
}
