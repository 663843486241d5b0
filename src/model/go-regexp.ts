import { TwillError } from './error.ts';

/** What stands for a POSIX class within brackets, `[[:digit:]]`. */
const posixClasses: Readonly<Record<string, string>> = {
  alnum: '0-9A-Za-z',
  alpha: 'A-Za-z',
  ascii: '\\x00-\\x7F',
  blank: '\\t ',
  cntrl: '\\x00-\\x1F\\x7F',
  digit: '0-9',
  graph: '!-~',
  lower: 'a-z',
  print: ' -~',
  punct: '!-\\/:-@\\[-`{-~',
  space: '\\t\\n\\v\\f\\r ',
  upper: 'A-Z',
  word: '0-9A-Za-z_',
  xdigit: '0-9A-Fa-f',
};

/** Go's escapes that JavaScript does not have, or reads otherwise. */
const escapes: Readonly<Record<string, string>> = { A: '(?<![\\s\\S])', z: '(?![\\s\\S])', a: '\\x07' };

const literal = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&');

/** One part of a pattern: quoted text, an escape, a POSIX class, the beginning of a named group, or any other character. */
const part = /\\Q([\s\S]*?)(?:\\E|$)|\\([\s\S])|\[:(\w+):\]|\(\?P<|[\s\S]/g;

function posixClass(name: string): string {
  const characters = posixClasses[name];
  if (characters === undefined) throw new SyntaxError(`there is no class [:${name}:]`);
  return characters;
}

function translated(pattern: string): string {
  /** Within brackets; directly behind the opening one a closing one is a character. */
  let brackets: 'outside' | 'begin' | 'inside' = 'outside';
  return pattern.replace(part, (text: string, quoted?: string, escaped?: string, posix?: string) => {
    if (quoted !== undefined) return literal(quoted);
    const at = brackets;
    if (at === 'outside') {
      if (escaped !== undefined) return escapes[escaped] ?? text;
      if (text === '[') brackets = 'begin';
      return text === '(?P<' ? '(?<' : text;
    }
    if (at === 'begin' && text === '^') return text;
    brackets = text === ']' && at === 'inside' ? 'outside' : 'inside';
    if (posix !== undefined) return posixClass(posix);
    return text === '[' || (text === ']' && at === 'begin') ? `\\${text}` : text;
  });
}

/**
 * A pattern as Go's regexp package reads it (RE2's syntax), since it is given for flanneld: `(?i)^eth`, `[[:digit:]]`,
 * `\A`, `\z`, `\Q…\E` and `(?P<name>…)` mean something else to JavaScript, or nothing.
 * @throws TwillError `invalid` saying what is wrong
 */
export function goRegExp(pattern: string): RegExp {
  const [flags = ''] = /^\(\?[ims]+\)/.exec(pattern) ?? [];
  try {
    return new RegExp(translated(pattern.slice(flags.length)), flags.replace(/\W/g, ''));
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new TwillError('invalid', `'${pattern}' is not a regular expression (${why})`);
  }
}
