#!/usr/bin/env node
// dist/main.js: runs the bundled program, of which agent and proxy have one of their own. V8 would read and compile a
// megabyte of JavaScript at every start; the build has kept what that came to. Another version of Node than the build's
// refuses it and compiles as usual.
const { existsSync, readFileSync } = require('node:fs');
const { Module } = require('node:module');
const { join } = require('node:path');
const { setFlagsFromString } = require('node:v8');
const { Script } = require('node:vm');

const [, , command] = process.argv;
const name = command === 'agent' || command === 'proxy' ? command : 'twill';
if (name === 'agent') {
  // Node's own modules come with their code kept, too, for V8's own settings: these are loaded before others hold.
  for (const module of ['http2', 'https', 'child_process', 'dns', 'worker_threads'])
    require(`node:${module}`);
  // The agent does little once its first state stands, on every node of a cluster: what counts is its memory. The space
  // for new objects must not grow to 48 MiB while thousands of leases are read, nor V8 compile for long computations (by
  // any of its three compilers: the middle one came with Node 22). With these, 5,000 leases need a third less.
  const flags = ['semi-space-growth-factor=1', 'no-opt', 'no-maglev', 'no-sparkplug', 'optimize-for-size'];
  for (const flag of flags) setFlagsFromString(`--${flag}`);
}

const filename = join(__dirname, `${name}.cjs`);
const code = join(__dirname, `${name}.code`);
// The bundle is ASCII: a string of one byte a character is half as large, and needs no decoding.
const script = new Script(Module.wrap(readFileSync(filename, 'latin1')), {
  filename,
  cachedData: existsSync(code) ? readFileSync(code) : undefined,
});
script.runInThisContext()(exports, require, module, filename, __dirname);

/** For the build, which keeps its code. */
module.exports = script;
