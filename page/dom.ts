/** Elements are made of text only: nothing that comes over the network is ever read as HTML. */

export type Child = Node | string | undefined | false;
type Properties = Readonly<Record<string, string | boolean | ((event: Event) => void) | undefined>>;

function dress(element: Element, properties: Properties, children: readonly Child[]): void {
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === 'function') element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, '');
    else if (value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== undefined && child !== false));
}

/** An element; functions among its properties are listeners. */
export function el<K extends keyof HTMLElementTagNameMap>(
  name: K,
  properties: Properties = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(name);
  dress(element, properties, children);
  return element;
}

/** The same in a drawing. */
export function svg(name: string, properties: Properties = {}, ...children: Child[]): SVGElement {
  const element = document.createElementNS('http://www.w3.org/2000/svg', name);
  dress(element, properties, children);
  return element;
}

/** One of the elements that the document comes with. */
export function at<T extends HTMLElement = HTMLElement>(id: string): T {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`no element ${id}`);
  return element as T;
}

const keys = new WeakMap<Element, string>();

/**
 * Fills an element anew where what it shows has changed: who reads, or has the keyboard in it, is not disturbed else.
 * @param of what it is made of
 */
export function fill(element: Element, of: unknown, make: () => readonly Child[]): void {
  const key = JSON.stringify(of);
  if (keys.get(element) === key) return;
  keys.set(element, key);
  const focused = element.contains(document.activeElement)
    ? document.activeElement?.getAttribute('data-focus')
    : undefined;
  element.replaceChildren(...make().filter((child) => child !== undefined && child !== false));
  if (focused)
    for (const one of element.querySelectorAll<HTMLElement>('[data-focus]'))
      if (one.getAttribute('data-focus') === focused) one.focus({ preventScroll: true });
}

/** Sets text where it is another: what has not changed is not read out again. */
export function say(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

export type Tone = 'good' | 'poor' | 'bad' | 'note' | 'none';

const shapes: Readonly<Record<Tone, readonly [outline: string, mark: string]>> = {
  good: ['M12 2a10 10 0 1 0 0 20 10 10 0 0 0 0-20z', 'M7.5 12.5l3 3 6-6.5'],
  poor: ['M12 2.5 23 21.5H1z', 'M12 9.5v5M12 18v.1'],
  bad: ['M7.9 2h8.2L22 7.9v8.2L16.1 22H7.9L2 16.1V7.9z', 'M8.5 8.5l7 7M15.5 8.5l-7 7'],
  note: ['M12 2a10 10 0 1 0 0 20 10 10 0 0 0 0-20z', 'M12 11v6M12 7v.1'],
  none: ['M12 2a10 10 0 1 0 0 20 10 10 0 0 0 0-20z', 'M7 12h.1M12 12h.1M17 12h.1'],
};

/** A sign that differs by its shape, not by its colour alone. @param label what it says, where no word beside it does */
export function sign(tone: Tone, label?: string): SVGElement {
  const [outline, mark] = shapes[tone];
  const named: Properties =
    label === undefined ? { 'aria-hidden': 'true' } : { role: 'img', 'aria-label': label };
  return svg(
    'svg',
    { viewBox: '0 0 24 24', class: `sign ${tone}`, ...named },
    svg('path', { class: 'outline', d: outline }),
    svg('path', { class: 'mark', d: mark }),
  );
}

/** A command, with a button that copies it where the browser lets us. */
export function command(text: string): HTMLElement {
  const canCopy = window.isSecureContext && navigator.clipboard !== undefined;
  const button = el(
    'button',
    {
      type: 'button',
      class: 'copy',
      'data-focus': `copy ${text}`,
      click: () => {
        void navigator.clipboard.writeText(text).then(() => say(button, 'copied'));
      },
    },
    'copy',
  );
  return el('div', { class: 'command' }, el('code', {}, text), canCopy && button);
}

export const empty = (text: string): HTMLElement => el('p', { class: 'empty' }, text);

export const plural = (count: number, one: string, many = `${one}s`): string =>
  `${count.toLocaleString('en')} ${count === 1 ? one : many}`;

/** How long ago, in the largest unit that says enough. */
export function age(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86_400)} d`;
}

export const clock = (ms: number): string => new Date(ms).toLocaleTimeString('en-GB', { hour12: false });
