/**
 * What would end a line or change how it is shown: control characters (C0, DEL, C1), line and paragraph separators, and
 * the marks that turn the direction of writing.
 */
const unprintable = /[\p{Cc}\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/gu;

const short: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

function escaped(character: string): string {
  return short[character] ?? `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

/**
 * Text from outside as a part of one line, of a log, a status page or a table: nothing in it ends the line, and it is
 * cut after `most` characters, with how many there were.
 */
export function oneLine(text: string, most = 2000): string {
  const cut = text.length > most ? `${text.slice(0, most)}… (${text.length} characters)` : text;
  return cut.replace(unprintable, escaped);
}

/** Breaks a text at its spaces into lines of at most `width` characters; a longer word has a line of its own. */
export function wrapText(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line];
}

/** What a file of one line says: editors end it with a line end. */
export const withoutLineEnd = (text: string): string => text.replace(/\r?\n$/, '');
