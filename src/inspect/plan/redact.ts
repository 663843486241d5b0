import { withoutCredentials } from '../../model/error.ts';

const GONE = '***';

/** Names whose values nobody else needs to know, in JSON, YAML, environment and command lines. */
const secretName =
  '[\\w.-]*(?:passw(?:or)?d|passphrase|secret|token|private[_-]?key|client[_-]?key[_-]?data|api[_-]?key|access[_-]?key|credential|authorization|psk)[\\w.-]*';

/** `"password": "x"` and `'password': 'x'`. */
const quotedValue = new RegExp(`(["'])(${secretName})\\1(\\s*:\\s*)(["'])(?:(?!\\4)[^\\\\]|\\\\.)*\\4`, 'gi');
/** The same within a JSON text that is quoted once more. */
const escapedValue = new RegExp(`(\\\\")(${secretName})\\1(\\s*:\\s*)\\\\"(?:(?!\\\\").)*\\\\"`, 'gi');
/** `password: x`, `--etcd-password=x`, `TOKEN=x`, up to the end of the word or of the quoted text. */
const bareValue = new RegExp(
  `(^|[\\s,;{?&("'-])(${secretName})(\\s*[:=]\\s*|\\s+(?=["']?[^\\s-]))("[^"]*"|'[^']*'|[^\\s,;"'&})]+)`,
  'gim',
);
const bearer = /\b(bearer|basic)\s+[\w.~+/=-]{6,}/gi;
/** JSON Web Tokens, of service accounts and others. */
const webToken = /\beyJ[\w-]{5,}\.[\w-]{5,}\.[\w-]*/g;
const privateKey = /-----BEGIN ([A-Z ]*PRIVATE KEY)-----[\s\S]*?(?:-----END \1-----|$)/g;
/** The same in one line of base 64, as kubeconfigs have it: it begins with `-----BEGIN`. */
const encodedKey = /\bLS0tLS1CRUdJTi[\w+/=]{20,}/g;

/** A letter or digit of base 64, or what stands between its lines, also in a text that is quoted. */
const keyCharacter = /[\w+/=\s\\]/;

/** Of a text that was cut within a private key the rest of it. */
function withoutKeyEnds(text: string): string {
  let shown = '';
  let done = 0;
  for (const { index } of text.matchAll(/-----END [A-Z ]*PRIVATE KEY-----/g)) {
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
  const withoutKeys = withoutCredentials(text)
    .replace(privateKey, '-----BEGIN $1----- *** -----END $1-----')
    .replace(encodedKey, GONE)
    .replace(webToken, GONE)
    .replace(bearer, `$1 ${GONE}`)
    .replace(escapedValue, `$1$2$1$3$1${GONE}$1`)
    .replace(quotedValue, `$1$2$1$3$4${GONE}$4`)
    .replace(bareValue, `$1$2$3${GONE}`);
  return withoutKeyEnds(withoutKeys);
}

/** What every text has in it that one of the patterns finds something in: a word, or a beginning. */
const suspect =
  /passw|passphrase|secret|token|private|client[_-]?key|api[_-]?key|access[_-]?key|credential|authorization|psk|bearer|basic|eyj|ls0tls1crudjti|:\/\//i;
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
