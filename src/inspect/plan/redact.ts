import { withoutCredentials } from '../../model/error.ts';

const GONE = '***';

/**
 * What is in names whose values nobody else needs to know, in JSON, YAML, environment and command lines; and their ends. Of
 * a longer name no end of all those that would fit is tried.
 */
const secretWord =
  '(?:passw(?:or)?d|passphrase|secret|token|private[ _-]?key|pre-?shared[ _-]?key|client[_-]?key[_-]?data|api[_-]?key|access[_-]?key|credential|authorization|signature|(?<!tcp_syn|sctp_timeout_|net.sctp.(?:valid_)?)cookie|psk)(?![\\w.-]{61})[\\w.-]{0,60}';
/** Names, or their last words, that mean something else within a longer word. */
const shortName = '(?<![a-z0-9])(?:pass|pwd|auth|sig)';
/** Not where it is a Service's, in the comment of a rule: `--comment "demo/auth:http cluster IP"`. */
const service = '[a-z\\d-]{1,63}/[a-z\\d-]{1,63}';
const notOfService = `(?=[\\s\\\\"':=])(?!(?:(?<=comment(?:\\\\*":)? ?\\\\*"${service})(?::[a-z\\d-]{1,63})? (?:(?:cluster|external|loadbalancer) IP|has no |->)|(?<=KUBE-[^"\\n]{1,160}comment \\\\*"${service})(?::[a-z\\d-]{1,63})?\\\\*"))`;
/** Of a line that begins with such a name. */
const lineName = `[\\w.-]{0,60}(?:${secretWord}|(?<![a-z0-9])(?:pass|pwd))`;

/** Text in quotes, also as it is within a text that is quoted itself: there one with fewer slashes does not end it. */
const quotedText =
  '(?<slashes>\\\\+)"[^"\\n]*(?:"(?<!\\k<slashes>")[^"\\n]*)*"(?<=\\k<slashes>")|"[^"\\\\]*(?:\\\\.[^"\\\\]*)*"|\'[^\'\\\\]*(?:\\\\.[^\'\\\\]*)*\'';
/** Characters of a word, and slashes in it: all that stand side by side, or none where a quote follows. */
const inWord = '[^\\s,;"\'&})\\]\\\\]';
const slashesInWord = '\\\\+(?!["\'\\\\])';
/** Up to the end of the word, or of the quoted text; of one that was cut all of the line. */
const value = `(?<value>${quotedText}|\\\\*["'][^\\n]*|(?:${inWord}|${slashesInWord})${inWord}*(?:${slashesInWord}${inWord}*)*)`;
/** What leads from a name to its value. */
const assigned = `(?:\\\\*["']\\s*[:=]\\s*|\\s*[:=][ \\t]*)`;
/** Not a list, which {@link withoutLists} is for: of a lone bracket the other one would stay. */
const notList = '(?![[{])';

/** `"password": "x"`, `password: x`, `--etcd-password=x`, `TOKEN=x`, `"auth":"x"`. */
const secret = `(?:${secretWord}|${shortName})${notOfService}${assigned}`;
const named = new RegExp(`(?<name>${secret})${notList}${value}`, 'gi');
/** `"tokens": [` */
const list = new RegExp(`${secret}(?=[[{])`, 'gi');
/** `--etcd-password x`, also as words of a list in JSON. */
const following = new RegExp(
  `(?<name>${secretWord}${notOfService}[ \\t]+(?=["']?[^\\s-])|["']-[\\w.-]{0,60}${secretWord}["']\\s*,\\s*${notList})${value}`,
  'gi',
);
/** `name: PASSWORD` and `value: x`, as containers have their environment. */
const pair = new RegExp(
  `(?<name>\\bname\\\\*["']?\\s*[:=]\\s*\\\\*["']?${lineName}\\\\*(?!\\\\)["']?\\s*(?:,\\s*)?\\\\*["']?value\\\\*["']?\\s*[:=][ \\t]*)${notList}${value}`,
  'gi',
);
/** In YAML, and among the headers of HTTP: `password: all of the line`, and what goes on further in. */
const line = new RegExp(
  `^(?<name>(?<in>[ \\t]*)(?:- )?${lineName}:[ \\t]+)(?<value>[^\\s"'{[|>].*(?:\\n\\k<in>[ \\t]+(?![ \\t]|.*:(?:[ \\t]|$))\\S.*)*)$`,
  'gim',
);
/** Lines of YAML that stand further in. */
const further = '\\n\\k<in>[ \\t]+\\S.*|\\n[ \\t]*(?=\\n)';
/** In YAML: `password: |` or nothing, and the lines that follow; a list's may stand no further in. */
const block = new RegExp(
  `^(?<name>(?<in>[ \\t]*)(?:- )?${lineName}:[ \\t]*)(?<value>(?:[!&]\\S+[ \\t]+)*[|>][-+0-9]*[ \\t]*(?:#.*)?(?:${further})*|(?:${further})+|(?:\\n\\k<in>- .*(?:${further})*)+)`,
  'gim',
);
/** `curl -u user:x`, `sshpass -p x`. */
const login = /(?<name>\s(?:-u|--user|--proxy-user)[ =]["']?[^\s:"']+:|\bsshpass\s+-p\s*)(?<value>[^\s"']+)/g;
/** `user:x@host` without the scheme of a URL. */
const mailed = /(?<name>(?:^|[\s"'=,(])[\w.%+-]{1,100}:)(?<value>[^\s"'@/:]{1,200})(?=@[\w[])/gm;
const bearer = /\b(bearer|basic)\s+[\w.~+/=-]{6,}/gi;
/**
 * JSON Web Tokens, of service accounts and others. Whether points follow is looked for where a word begins: there may be
 * as many beginnings of a token in it as there is room for.
 */
const webToken = /(?<![\w-])(?=[\w-]+\.[\w-]{5,}\.)(?<before>[\w-]*?)\beyJ[\w-]{5,}\.[\w-]{5,}\.[\w-]*/g;
/** Tokens that services give a beginning of their own. */
const knownToken = /\b(?:gh[opusr]_|github_pat_|glpat-|xox[abeprs]-|AIza)[\w-]{10,}|\bAGE-SECRET-KEY-1\w+/gi;
const privateKey = /-----BEGIN ([A-Z ]*PRIVATE KEY(?: BLOCK)?)-----[\s\S]*?(?:-----END \1-----|$)/g;
/** The same in one line of base 64, as kubeconfigs have it: it begins with `-----BEGIN`. */
const encodedKey = /\bLS0tLS1CRUdJTi[\w+/=]{20,}/g;

/** The quote behind a name, with the slashes before it. */
const nameQuote = /(?<!\\)(\\*["'])\s*[:=,]\s*$/;

/** What stands for a value: JSON stays JSON. */
function hidden(text: string, name: string): string {
  const quote = /^\\*["']/.exec(text)?.[0] ?? nameQuote.exec(name)?.[1] ?? '';
  return quote + GONE + quote;
}

const withoutValue = (...match: unknown[]): string => {
  const groups = match.at(-1) as { readonly name: string; readonly value: string };
  return groups.name + hidden(groups.value, groups.name);
};

/** Behind a name without quotes, in prose perhaps, a list has at most so many characters in several lines. */
const MOST_OF_LIST = 1000;
/** So many lists without an end are looked through for it; of further ones the line goes. */
const MOST_LISTS = 20;

/**
 * Where the list ends that begins there; the line, or the quoted text that it is in, where it has no end.
 * @param quote what its texts are in, if the name before it is: `"`, or `\\"` within a text that is quoted itself
 */
function listEnd(text: string, start: number, quote: string | undefined): number | undefined {
  const slashes = (quote?.length ?? 1) - 1;
  let depth = 0;
  let open: string | undefined;
  const marks = /(?<!\\)(\\*)(["'])|[[\]{}\n]/g;
  marks.lastIndex = start;
  for (let found = marks.exec(text); found !== null; found = marks.exec(text)) {
    const [mark, { length } = '', mouth] = found;
    if (mouth !== undefined) {
      if (mouth === "'" && quote?.endsWith('"') === true) continue;
      if (length < slashes) return found.index;
      // Each time that a text is quoted a quote in it gets twice as many and one.
      if (length % (2 * slashes + 2) !== slashes) continue;
      if (open === undefined) open = mouth;
      else if (open === mouth) open = undefined;
    } else if (mark === '\n') {
      if (open !== undefined || (quote === undefined && found.index - start > MOST_OF_LIST)) return undefined;
    } else if (open === undefined) {
      depth += mark === '[' || mark === '{' ? 1 : -1;
      if (depth === 0) return found.index + 1;
    }
  }
  return undefined;
}

/** The text without lists behind names of secrets, whatever is in them. */
function withoutLists(text: string): string {
  let shown = '';
  let done = 0;
  let patience = MOST_LISTS;
  list.lastIndex = 0;
  for (let found = list.exec(text); found !== null; found = list.exec(text)) {
    const [name] = found;
    const start = list.lastIndex;
    const quote = nameQuote.exec(name)?.[1];
    let end = patience > 0 ? listEnd(text, start, quote) : undefined;
    if (end === undefined) {
      patience--;
      const line = text.indexOf('\n', start);
      end = line < 0 ? text.length : line;
    }
    shown += text.slice(done, start) + hidden('', name);
    done = end;
    list.lastIndex = end;
  }
  return shown + text.slice(done);
}

/** A letter or digit of base 64, or what stands between its lines, also in a text that is quoted. */
const keyCharacter = /[\w+/=\s\\]/;

/** Of a text that was cut within a private key the rest of it. */
function withoutKeyEnds(text: string): string {
  let shown = '';
  let done = 0;
  for (const { index } of text.matchAll(/-----END [A-Z ]*PRIVATE KEY(?: BLOCK)?-----/g)) {
    let start = index;
    while (start > done && keyCharacter.test(text[start - 1]!)) start--;
    if (start < index - 1) {
      shown += `${text.slice(done, start)} ${GONE} `;
      done = index;
    }
  }
  return shown + text.slice(done);
}

function redactPart(text: string): string {
  const whole = withoutCredentials(text).replace(privateKey, '-----BEGIN $1----- *** -----END $1-----');
  // While its end can be told: `PRIVATE KEY BLOCK` is a name with a value, too.
  const withoutKeys = withoutKeyEnds(whole)
    .replace(encodedKey, GONE)
    .replace(webToken, `$<before>${GONE}`)
    .replace(knownToken, GONE)
    .replace(bearer, `$1 ${GONE}`);
  const withoutBlocks = withoutKeys.replace(block, withoutValue);
  return [line, pair, named, following, login, mailed].reduce(
    (shown, pattern) => shown.replace(pattern, withoutValue),
    withoutLists(withoutBlocks),
  );
}

/** What every text has in it that one of the patterns finds something in: a word, or a beginning. */
const suspect =
  /pass|pwd|secret|token|private|shared|client[_-]?key|api[_-]?key|access[_-]?key|credential|auth|signature|sig\W|cookie|psk|bearer|basic|eyj|ls0tls1crudjti|gh[opusr]_|_pat_|glpat-|xox|aiza|:\/\/|@|-u |-user/i;
/** Characters that are looked through for these at a time. */
const PART = 65_536;

/** Where the part ends that begins there: behind a line, a comma or a space; undefined where there is none for long. */
function partEnd(text: string, start: number): number | undefined {
  if (text.length - start <= PART) return text.length;
  const near = text.slice(start + PART, start + 4 * PART);
  const line = near.indexOf('\n');
  const end = line < 0 ? near.search(/[, ]/) : line;
  return end < 0 ? undefined : start + PART + end + 1;
}

/**
 * The text without what gives somebody rights: passwords, tokens and keys, by what they look like and by the names they
 * are called. Rather too much is left out than too little: words like `key` of a map stay. Of megabytes of rules and routes
 * most is only looked through for the words: a part with one of them is taken together with what follows it.
 */
export function redact(text: string): string {
  let shown = '';
  let start = 0;
  // Where what is to be looked at closely begins.
  let close: number | undefined;
  while (start < text.length) {
    const found = partEnd(text, start);
    const end = found ?? start + PART;
    // What one of the words may be cut in is looked at closely, whatever it is.
    const isSuspect = found === undefined || suspect.test(text.slice(start, end));
    if (close !== undefined && !isSuspect) {
      shown += redactPart(text.slice(close, end));
      close = undefined;
    } else if (isSuspect) close ??= start;
    else shown += text.slice(start, end);
    start = end;
  }
  return close === undefined ? shown : shown + redactPart(text.slice(close));
}

/** Says, in a text that was cut, that it was. */
const cutMark = (bytes: number): string => `\n… ${bytes} characters left out …\n`;

/** Characters within which a line is looked for that a cut can be made at. */
const LINE = 4096;

/**
 * At most so many characters: the beginning and, mostly, the end, where logs say what happened last. Lines stay whole, as
 * far as they are not very long: of half of one it could not be told whether it is a secret.
 */
export function bounded(text: string, most: number): string {
  if (text.length <= most) return text;
  const head = Math.floor(most / 4);
  const tail = text.length - (most - head);
  const before = text.lastIndexOf('\n', head);
  const behind = text.indexOf('\n', tail);
  const first = before < Math.max(0, head - LINE) ? head : before;
  const last = behind < 0 || behind > tail + LINE ? tail : behind + 1;
  return text.slice(0, first) + cutMark(last - first) + text.slice(last);
}
