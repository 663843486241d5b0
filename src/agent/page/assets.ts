import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { TwillError } from '../../model/error.ts';

export interface Asset {
  readonly type: string;
  readonly body: Buffer;
}

const files = {
  '/': ['index.html', 'text/html; charset=utf-8'],
  '/page.css': ['page.css', 'text/css; charset=utf-8'],
  '/page.js': ['page.js', 'text/javascript; charset=utf-8'],
  '/icon.svg': ['icon.svg', 'image/svg+xml'],
} as const;

/** The program's file lies beside the page's folder; of the sources it is the build's. */
const folders = [join(import.meta.dirname, 'page'), join(import.meta.dirname, '../../../../dist/page')];

/** Everything that the page is made of, read once. @throws TwillError `unavailable` where the program came without it */
export function readAssets(): ReadonlyMap<string, Asset> {
  for (const folder of folders) {
    try {
      return new Map(
        Object.entries(files).map(([path, [name, type]]) => [
          path,
          { type, body: readFileSync(join(folder, name)) },
        ]),
      );
    } catch {
      // the next one
    }
  }
  throw new TwillError(
    'unavailable',
    `the page's files are not in ${folders[0]}: install all of Twill's dist folder, or leave --page-bind-address out`,
  );
}
