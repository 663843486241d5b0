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

/**
 * The text without what gives somebody rights: passwords, tokens and keys, by what they look like and by the names they
 * are called. Rather too much is left out than too little: words like `key` of a map stay.
 */
export function redact(text: string): string {
  return withoutCredentials(text)
    .replace(privateKey, '-----BEGIN $1----- *** -----END $1-----')
    .replace(encodedKey, GONE)
    .replace(webToken, GONE)
    .replace(bearer, `$1 ${GONE}`)
    .replace(escapedValue, `$1$2$1$3$1${GONE}$1`)
    .replace(quotedValue, `$1$2$1$3$4${GONE}$4`)
    .replace(bareValue, `$1$2$3${GONE}`);
}

/** Says, in a text that was cut, that it was. */
const cutMark = (bytes: number): string => `\n… ${bytes} characters left out …\n`;

/** At most so many characters: the beginning and, mostly, the end, where logs say what happened last. */
export function bounded(text: string, most: number): string {
  if (text.length <= most) return text;
  const head = Math.floor(most / 4);
  const tail = most - head;
  return text.slice(0, head) + cutMark(text.length - most) + text.slice(text.length - tail);
}
