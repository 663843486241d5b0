// Runs in a machine that has nothing of its own but its architecture.
import assert from 'node:assert/strict';
import { exerciseNode, say } from './node.ts';

const [, , architecture] = process.argv;
assert.equal(process.arch, architecture);
say(`${architecture}, Node ${process.version}`);
await exerciseNode(async () => {});
