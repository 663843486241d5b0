// Started by Guard. Lives in its own session until its standard input closes, which happens whatever way the owner
// ends, and then removes everything of the owner.
import { cleanUp } from './cleanup.ts';

const id = process.argv[2]!;
let received = '';
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGPIPE'] as const) process.on(signal, () => {});
process.stdin.on('data', (chunk: Buffer) => {
  received += chunk.toString();
});
process.stdin.on('error', () => {});
process.stdin.on('close', async () => {
  if (received === 'keep') return;
  try {
    await cleanUp(id);
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : error}\n`);
    process.exitCode = 1;
  }
});
