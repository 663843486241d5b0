import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { describe, it } from 'node:test';

import { root } from '../../lab/files.ts';

const source = join(root, 'src');

/** Who may ask what time it is, and what for. */
const readers: Readonly<Record<string, string>> = {
  'src/process/log.ts': 'lines for people',
  'src/process/loop.ts': 'the time of the last success, for people',
  'src/agent/health.ts': 'the time of the last success, for people',
  'src/services/health.ts': 'the fields of /healthz that kube-proxy has',
  'src/services/input.ts': 'changes that were made before the start, by the time others wrote',
  'src/services/zpages.ts': 'the time of the start that /statusz shows',
  'src/services/metrics.ts': 'metrics that are time stamps, or an age of a time stamp in an annotation',
  'src/inspect/pods.ts': 'the age of a pod, from the time stamp in its record',
  'src/inspect/report.ts': 'the name of the archive, and when its files were written',
  'src/inspect/status-table.ts': 'the age of time stamps that others have said',
  'src/agent/state.ts': 'when the state was said, and when the lease ends, for people',
  'src/agent/page/viewers.ts': 'when the agent was heard last, for people',
  'src/inspect/page/feed.ts': 'when the node was looked at, for people',
  'src/services/inspection.ts': 'when the state was said, for people',
  'src/pods/record.ts': 'when a pod was made, for people',
  'src/kubernetes/exec-plugin.ts': 'expirationTimestamp is a time of day',
  'src/leases/etcd/client.ts': 'gRPC wants a deadline as a time of day, and turns it into a timer at once',
  'src/leases/etcd/streams.ts': 'gRPC wants a deadline as a time of day, and turns it into a timer at once',
  'src/leases/kubernetes/records.ts': 'time stamps in a condition of the Node',
};

function files(): string[] {
  return readdirSync(source, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => relative(root, join(source, name)))
    .sort();
}

const textOf = (path: string): string => readFileSync(join(root, path), 'utf8');

describe('clock', () => {
  const readsDate = /\bDate\.now\b|\bnew Date\(\)|(?<!new )\bDate\(|performance\.now\b|\bhrtime\b/;
  const outside = files().filter((path) => path !== 'src/process/clock.ts');

  it('is read through process/clock.ts alone', () => {
    const strangers = outside.filter((path) => readsDate.test(textOf(path)));
    assert.deepEqual(strangers, [], 'take monotonicMs, or wallClockMs for what people read');
  });

  it('is asked for the time of day only where that is meant', () => {
    const found = outside.filter((path) => /\b(wallClockMs|isoTime)\b/.test(textOf(path)));
    assert.deepEqual(
      found.filter((path) => readers[path] === undefined),
      [],
      'an interval, an age or an order is monotonicMs; name here what a time stamp is for',
    );
    assert.deepEqual(
      Object.keys(readers).filter((path) => !found.includes(path)),
      [],
      'does not read it any more',
    );
  });
});
