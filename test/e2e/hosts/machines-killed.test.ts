import { test } from 'node:test';
import { killRun } from '../../lab/killed-run.ts';

test('a run of tests that is killed while a machine of its runs leaves neither that nor its files', () =>
  killRun(
    'e2e/hosts/machines.test',
    ({ marked }) => marked(([program]) => /qemu/.test(program ?? '')).length > 0,
  ));
