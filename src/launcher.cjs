// Runs the bundled program. V8 reads and compiles a megabyte of JavaScript at every start; the build has kept what that
// came to, once for the agent's V8 options and once for none. Another version of Node than the build's refuses it and
// compiles as usual.
const { existsSync, readFileSync } = require('node:fs');
const { Module } = require('node:module');
const { join } = require('node:path');
const { Script } = require('node:vm');

const filename = join(__dirname, 'twill.cjs');
const code = join(__dirname, process.argv[2] === 'agent' ? 'agent.code' : 'program.code');
// The bundle is ASCII: a string of one byte a character is half as large, and needs no decoding.
const script = new Script(Module.wrap(readFileSync(filename, 'latin1')), {
  filename,
  cachedData: existsSync(code) ? readFileSync(code) : undefined,
});
script.runInThisContext()(exports, require, module, filename, __dirname);

/** For the build, which keeps its code. */
module.exports = script;
