// ip-num works out the ranges of private, loopback and other special addresses at every start, with big integers; none of
// what needs them is called.
//
// Saves (Node 20, medians of 40 starts of the proxy): 15 ms of processor time, 1.7 MiB.
// Can go when ip-num works them out when they are first asked for.
import { readFileSync } from 'node:fs';

export const ipNumWithoutRanges = {
  name: 'ip-num-without-ranges',
  setup({ onLoad }) {
    onLoad({ filter: /ip-num\/dist\/src\/IPNumber\.js$/ }, (args) => {
      const source = readFileSync(args.path, 'utf8');
      const contents = source.replace(/^IPv[46]\.[A-Z_]+_RANGES? = [^;]*;$/gm, '');
      if (contents === source)
        throw new Error('ip-num changed: tools/rewrites/ip-num-ranges.mjs no longer finds its ranges');
      return { contents, loader: 'js' };
    });
  },
};
