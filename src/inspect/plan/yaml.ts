/**
 * Answers as YAML 1.2. A library for all of the language takes seconds, and most of the memory there is, for the answer of
 * a node that has thousands of others; plain values need a few lines.
 */

/** What would be read as something else than a text. */
const reserved = /^(?:true|false|null|yes|no|on|off|y|n|nan)$/i;
/** Nothing in it means anything in YAML: no colon, no number sign, no quote, and a letter at the beginning. */
const plain = /^[A-Za-z](?:[\w ./@+-]*[\w./@+-])?$/;
/** Characters that end lines for some readers, and those that others refuse to read. */
const unprintable = /[\u007f-\u009f\u2028\u2029\ufeff\ufffe\uffff]/g;

function text(value: string): string {
  if (plain.test(value) && !reserved.test(value)) return value;
  // JSON's texts are YAML's.
  return JSON.stringify(value).replace(
    unprintable,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

const isEmpty = (value: object): boolean =>
  Array.isArray(value) ? value.length === 0 : fieldsOf(value).length === 0;

/** What JSON has of an object. */
function fieldsOf(value: object): [string, unknown][] {
  return Object.entries(value).filter(([, field]) => field !== undefined);
}

/** @param indent spaces before each line but the first, which follows what stands there already */
function write(value: unknown, indent: string, lines: string[], before: string): void {
  if (typeof value !== 'object' || value === null) {
    lines.push(`${before}${typeof value === 'string' ? text(value) : (JSON.stringify(value) ?? 'null')}`);
  } else if (isEmpty(value)) lines.push(`${before}${Array.isArray(value) ? '[]' : '{}'}`);
  else if (Array.isArray(value)) {
    let start = before === '' ? indent : before;
    for (const one of value) {
      write(one, `${indent}  `, lines, `${start}- `);
      start = indent;
    }
  } else {
    let start = before;
    for (const [name, field] of fieldsOf(value)) {
      const head = `${start}${text(name)}:`;
      if (typeof field === 'object' && field !== null && !isEmpty(field)) {
        lines.push(head);
        const inner = `${indent}  `;
        write(field, inner, lines, Array.isArray(field) ? '' : inner);
      } else write(field, '', lines, `${head} `);
      start = indent;
    }
  }
}

/** @param value of what JSON can say; undefined fields are left out */
export function toYaml(value: unknown): string {
  const lines: string[] = [];
  write(value, '', lines, '');
  return `${lines.join('\n')}\n`;
}
