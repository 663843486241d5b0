// Runs the built program with the given arguments and keeps the code that V8 compiled meanwhile: FILE COMMAND…
const { writeFileSync } = require('node:fs');
const { join } = require('node:path');

const [node, , file, ...command] = process.argv;
const program = join(__dirname, '../dist/main.js');
process.argv = [node, program, ...command];
const script = require(program);
process.on('exit', () => {
  writeFileSync(file, script.createCachedData());
  process.exitCode = 0;
});
