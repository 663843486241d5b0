import { plural, svg } from './dom.ts';
import type { Peer } from './peers.ts';

/** More nodes than these are cells: lines to all of them would say nothing. */
const MOST_ON_RINGS = 40;
const MOST_ON_ONE_RING = 12;
/** Pixels of a cell's side, at least: what has more nodes has several in each. */
const SMALLEST_CELL = 15;
const LARGEST_CELL = 46;

export interface GraphOptions {
  readonly own: string;
  readonly width: number;
  /** Somebody has chosen these. */
  readonly pick: (peers: readonly Peer[]) => void;
}

interface Spot {
  readonly x: number;
  readonly y: number;
}

/**
 * What the drawing says of one. What is measured changes with each look: a drawing of cells leaves it to the list, so that
 * it stands still under the mouse.
 * @param count of all that are drawn
 */
export function labelled({ name, underlay, trouble, doubt, measured }: Peer, count: number): string {
  const time = measured === '' || count > MOST_ON_RINGS ? '' : ` (${measured})`;
  return `${name} at ${underlay}: ${trouble || doubt || 'reached as it should be'}${time}`;
}

/** Something that can be chosen by the mouse, a finger or the keyboard. */
function choice(text: string, choose: () => void, className: string, ...children: SVGElement[]): SVGElement {
  const key = (event: Event): void => {
    const { key: pressed } = event as KeyboardEvent;
    if (pressed !== 'Enter' && pressed !== ' ') return;
    event.preventDefault();
    choose();
  };
  return svg(
    'g',
    {
      role: 'button',
      tabindex: '-1',
      class: `choice ${className}`,
      'aria-label': text,
      'data-focus': `graph ${text.split(':')[0]}`,
      click: choose,
      keydown: key,
    },
    svg('title', {}, text),
    ...children,
  );
}

/** One stop of the tab key for all of the drawing; the arrows go on from there. @param step how far up and down go */
function roving(drawing: SVGElement, step: number): SVGElement {
  const all = [...drawing.querySelectorAll<SVGElement>('.choice')];
  all[0]?.setAttribute('tabindex', '0');
  drawing.addEventListener('keydown', (event) => {
    const moves: Record<string, number> = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: step, ArrowUp: -step };
    const move = moves[event.key];
    const from = all.indexOf(document.activeElement as SVGElement);
    if (move === undefined || from < 0) return;
    event.preventDefault();
    const next = all[Math.min(all.length - 1, Math.max(0, from + move))]!;
    all[from]!.setAttribute('tabindex', '-1');
    next.setAttribute('tabindex', '0');
    next.focus();
  });
  return drawing;
}

function cross({ x, y }: Spot, size: number): SVGElement {
  const d = `M${x - size} ${y - size}L${x + size} ${y + size}M${x + size} ${y - size}L${x - size} ${y + size}`;
  return svg('path', { class: 'cross', d });
}

function ringSpots(count: number, width: number, height: number): Spot[] {
  const rings = count > MOST_ON_ONE_RING ? 2 : 1;
  // Room for a label on either side.
  const [across, down] = [width / 2 - (width < 420 ? 54 : 78), height / 2 - 40];
  return Array.from({ length: count }, (_, index) => {
    const angle = ((index + 0.5) / count) * 2 * Math.PI - Math.PI / 2;
    const ring = rings === 2 && index % 2 === 1 ? 0.62 : 1;
    return {
      x: Math.round(width / 2 + Math.cos(angle) * across * ring),
      y: Math.round(height / 2 + Math.sin(angle) * down * ring),
    };
  });
}

function text(x: number, y: number, content: string, className = ''): SVGElement {
  return svg('text', { x: String(x), y: String(y), class: className }, content);
}

/** A circle, a triangle or a square: not told apart by their colours alone. */
const outlines: Readonly<Record<Peer['tone'], (x: number, y: number) => string>> = {
  good: (x, y) => `M${x - 9} ${y}a9 9 0 1 0 18 0a9 9 0 1 0 -18 0`,
  poor: (x, y) => `M${x} ${y - 11}l11 19h-22z`,
  bad: (x, y) => `M${x - 10} ${y - 10}h20v20h-20z`,
};

function nodeOf(peer: Peer, { x, y }: Spot, centre: Spot, named: boolean, pick: () => void): SVGElement {
  const { tone } = peer;
  const below = y >= centre.y;
  const at = below ? y + 25 : y - 29;
  const names =
    named || tone !== 'good'
      ? [text(x, at, peer.name, 'name'), text(x, at + 14, peer.underlay, 'place')]
      : [];
  const shape = svg('path', { class: 'body', d: outlines[tone](x, y) });
  const touch = svg('circle', { class: 'touch', cx: String(x), cy: String(y), r: '20' });
  return choice(
    labelled(peer, 1),
    pick,
    tone,
    touch,
    shape,
    ...(tone === 'bad' ? [cross({ x, y }, 4)] : []),
    ...names,
  );
}

/** This node in the middle, with a line to each other. */
function rings(peers: readonly Peer[], { own, width, pick }: GraphOptions): SVGElement {
  const height = Math.round(Math.max(260, width * 0.72));
  const centre = { x: Math.round(width / 2), y: Math.round(height / 2) };
  const spots = ringSpots(peers.length, width, height);
  const named = peers.length <= (width < 420 ? 6 : MOST_ON_ONE_RING);
  const lines = peers.map(({ tone }, index) => {
    const { x, y } = spots[index]!;
    return svg('path', { class: `link ${tone}`, d: `M${centre.x} ${centre.y}L${x} ${y}` });
  });
  // How long an answer takes stands on the line that it comes by.
  const times = peers.flatMap(({ measured }, index) => {
    const { x, y } = spots[index]!;
    const at = [centre.x + (x - centre.x) * 0.56, centre.y + (y - centre.y) * 0.56 + 4] as const;
    return named && measured !== '' ? [text(...at, measured, 'place')] : [];
  });
  const middle = svg(
    'g',
    { class: 'own' },
    svg('rect', { x: String(centre.x - 17), y: String(centre.y - 17), width: '34', height: '34', rx: '8' }),
    svg('path', {
      d: `M${centre.x - 9} ${centre.y - 3}l6-6M${centre.x - 9} ${centre.y + 9}l18-18M${centre.x + 3} ${centre.y + 9}l6-6`,
    }),
    text(centre.x, centre.y + 34, own, 'name'),
  );
  return svg(
    'svg',
    { viewBox: `0 0 ${width} ${height}`, role: 'group', 'aria-label': heading(peers) },
    ...lines,
    ...times,
    middle,
    ...peers.map((peer, index) => nodeOf(peer, spots[index]!, centre, named, () => pick([peer]))),
  );
}

/** A cell for each node, or for several that are neighbours by their subnets. */
function cells(
  peers: readonly Peer[],
  { width, pick }: GraphOptions,
): { drawing: SVGElement; columns: number; each: number } {
  const room = Math.round(width * 0.72);
  const most = Math.floor((width * room) / SMALLEST_CELL ** 2);
  const each = Math.ceil(peers.length / most);
  const count = Math.ceil(peers.length / each);
  const side = Math.min(LARGEST_CELL, Math.floor(Math.sqrt((width * room) / count)));
  const columns = Math.max(1, Math.floor(width / side));
  const height = Math.ceil(count / columns) * side;
  const made = Array.from({ length: count }, (_, index) => {
    const own = peers.slice(index * each, (index + 1) * each);
    const troubled = own.filter(({ tone }) => tone === 'bad').length;
    const doubtful = own.filter(({ tone }) => tone === 'poor').length;
    const tone = troubled > 0 ? 'bad' : doubtful > 0 ? 'poor' : 'good';
    const [x, y] = [(index % columns) * side, Math.floor(index / columns) * side];
    const body = svg('rect', {
      class: 'body',
      x: String(x + 1),
      y: String(y + 1),
      width: String(side - 2),
      height: String(side - 2),
      rx: '3',
    });
    const what =
      each === 1
        ? labelled(own[0]!, peers.length)
        : `${own[0]!.name} to ${own.at(-1)!.name}: ${troubled} of ${own.length} troubled, ${doubtful} in doubt`;
    const mark = tone === 'bad' ? [cross({ x: x + side / 2, y: y + side / 2 }, Math.max(2.5, side / 6))] : [];
    return choice(what, () => pick(own), `cell ${tone}`, body, ...mark);
  });
  const drawing = svg(
    'svg',
    { viewBox: `0 0 ${width} ${Math.max(side, height)}`, role: 'group', 'aria-label': heading(peers) },
    ...made,
  );
  return { drawing, columns, each };
}

function heading(peers: readonly Peer[]): string {
  const troubled = peers.filter(({ tone }) => tone === 'bad').length;
  const how = troubled === 0 ? 'all reached as they should be' : `${troubled} not as they should be`;
  return `${plural(peers.length, 'other node')}, ${how}; the list has the same. The arrow keys go from one to the next.`;
}

/** The other nodes as a drawing, and what it says below. */
export function drawNodes(
  peers: readonly Peer[],
  options: GraphOptions,
): { drawing: SVGElement; caption: string } {
  if (peers.length <= MOST_ON_RINGS)
    return {
      drawing: roving(rings(peers, options), 1),
      caption:
        'This node in the middle. A broken line to a crossed square is a node that is not as it should be, a dotted one to a triangle one that agents have doubts about.',
    };
  const { drawing, columns, each } = cells(peers, options);
  const cell =
    each === 1 ? 'Each cell is a node' : `Each cell is ${each} nodes that are neighbours by their subnets`;
  return {
    drawing: roving(drawing, columns),
    caption: `${cell}, in the order of the subnets. A cross marks trouble, a hollow cell doubts; choose a cell to list what is in it.`,
  };
}
