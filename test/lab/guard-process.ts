// Started by Guard. Makes the owner's directory, says so, and lives in its own session until its standard input closes,
// which happens whatever way the owner ends; then it removes everything of the owner.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cleanUp, guardFile, markNamespaceFolder, ownerDirectory, startTime } from './cleanup.ts';

const id = process.argv[2]!;
let received = '';
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGPIPE'] as const) process.on(signal, () => {});
process.stdout.on('error', () => {}); // the owner may have ended
process.stdin.on('error', () => {});
process.stdin.on('data', (chunk: Buffer) => {
  received += chunk.toString();
});
process.stdin.on('close', async () => {
  if (received === 'keep') return;
  try {
    await cleanUp(id);
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : error}\n`);
    process.exitCode = 1;
  }
});

mkdirSync(ownerDirectory(id), { mode: 0o755 });
writeFileSync(join(ownerDirectory(id), guardFile), `${process.pid} ${startTime(process.pid)}`);
markNamespaceFolder(id);
process.stdout.write('ready\n');
