import type { NodesEvent } from '../src/inspect/page/plan/view.ts';
import { at, el, empty, fill, plural, say, sign } from './dom.ts';
import { drawNodes, labelled } from './graph.ts';
import { type Peer, Peers } from './peers.ts';

const PAGE = 30;

/** The section of the other nodes: the drawing, and the list beside it, which says all that the drawing does. */
export class Nodes {
  readonly peers = new Peers();
  private readonly find = at<HTMLInputElement>('nodes-find');
  private readonly troubledOnly = at<HTMLInputElement>('nodes-troubled');
  private own = '';
  private shown = PAGE;
  private picked: readonly Peer[] | undefined;
  private why: string | undefined;

  constructor() {
    const again = (): void => {
      this.picked = undefined;
      this.shown = PAGE;
      this.list();
    };
    this.find.addEventListener('input', again);
    this.troubledOnly.addEventListener('change', again);
    at('nodes-form').addEventListener('submit', (event) => event.preventDefault());
    new ResizeObserver(() => this.draw()).observe(at('graph'));
  }

  take(event: NodesEvent): void {
    if (!this.peers.take(event)) return;
    this.why = undefined;
    this.show();
  }

  unknown(why: string): void {
    this.why = why;
    this.show();
  }

  name(own: string): void {
    if (this.own === own) return;
    this.own = own;
    this.draw();
  }

  private show(): void {
    const { all, more } = this.peers;
    const count = (wanted: Peer['tone']): number => all.filter(({ tone }) => tone === wanted).length;
    const [bad, poor] = [count('bad'), count('poor')];
    const some = `${bad === 0 ? '' : `, ${bad} troubled`}${poor === 0 ? '' : `, ${poor} in doubt`}`;
    say(at('nodes-count'), this.peers.isKnown ? `${(all.length + more).toLocaleString('en')}${some}` : '');
    this.draw();
    this.list();
  }

  private draw(): void {
    const place = at('graph');
    const width = Math.round(Math.min(640, place.clientWidth));
    const { all, isKnown } = this.peers;
    if (!isKnown || width < 100) return;
    const key = [width, this.own, all.map((peer) => labelled(peer, all.length))];
    fill(place, key, () => {
      if (all.length === 0) {
        say(at('graph-caption'), '');
        return [empty('No other node holds a lease yet: this one is alone.')];
      }
      const { drawing, caption } = drawNodes(all, {
        own: this.own,
        width,
        pick: (peers) => this.pick(peers),
      });
      say(at('graph-caption'), caption);
      return [drawing];
    });
  }

  private pick(peers: readonly Peer[]): void {
    this.picked = peers;
    this.find.value = '';
    this.troubledOnly.checked = false;
    this.shown = PAGE;
    this.list();
  }

  private wanted(): readonly Peer[] {
    const names = this.picked && new Set(this.picked.map(({ name }) => name));
    const text = this.find.value.trim().toLowerCase();
    const fitting = this.peers.all.filter(
      (peer) =>
        (names === undefined || names.has(peer.name)) &&
        (!this.troubledOnly.checked || peer.tone !== 'good') &&
        (text === '' ||
          [peer.name, peer.underlay, ...peer.subnets].some((one) => one.toLowerCase().includes(text))),
    );
    return (['bad', 'poor', 'good'] as const).flatMap((wanted) =>
      fitting.filter(({ tone }) => tone === wanted),
    );
  }

  private list(): void {
    const wanted = this.wanted();
    const { isKnown, all, more, foreign, away } = this.peers;
    const shown = wanted.slice(0, this.shown);
    const { why, picked } = this;
    const key = [
      isKnown,
      why,
      away,
      foreign,
      more,
      wanted.length,
      all.length,
      picked?.length,
      shown.map(({ rows }) => rows),
    ];
    fill(at('nodes-list'), key, () => [
      why !== undefined && el('p', { class: 'old' }, sign('note'), `Not known now: ${why}`),
      away !== undefined &&
        el('p', { class: 'old' }, sign('poor'), `${away}: compared with what it wrote down last.`),
      picked !== undefined && this.unpick(picked),
      isKnown && all.length === 0 && empty('No other node holds a lease.'),
      all.length > 0 && wanted.length === 0 && empty('No node is like that.'),
      shown.length > 0 && el('ul', { class: 'peers' }, ...shown.map(item)),
      wanted.length > shown.length &&
        el(
          'button',
          {
            type: 'button',
            'data-focus': 'more nodes',
            click: () => {
              this.shown += PAGE * 3;
              this.list();
            },
          },
          `Show more of ${wanted.length.toLocaleString('en')}`,
        ),
      more > 0 && empty(`and ${plural(more, 'more node')}: twill routes`),
      ...foreign.map((text) => el('p', { class: 'old' }, sign('poor'), `foreign: ${text}`)),
    ]);
  }

  private unpick(picked: readonly Peer[]): HTMLElement {
    const what = picked.length === 1 ? picked[0]!.name : `${picked[0]!.name} to ${picked.at(-1)!.name}`;
    const all = (): void => {
      this.picked = undefined;
      this.list();
    };
    return el(
      'p',
      { class: 'picked' },
      `Only ${what} `,
      el('button', { type: 'button', 'data-focus': 'all nodes', click: all }, 'show all'),
    );
  }
}

const words = { good: 'well', poor: 'in doubt', bad: 'troubled' } as const;

function item({ name, underlay, subnets, rows, trouble, doubt, measured, tone }: Peer): HTMLElement {
  const others = subnets.filter((subnet) => subnet !== name).join(', ');
  const ways = [...new Set(rows.map((row) => row[4]).filter((way) => way !== ''))].join('; ');
  return el(
    'li',
    { class: tone },
    sign(tone, words[tone]),
    el(
      'span',
      { class: 'who' },
      el('b', {}, name),
      others !== '' && el('span', {}, others),
      el('span', {}, `at ${underlay}`),
    ),
    el(
      'span',
      { class: 'what' },
      trouble || doubt || ways,
      measured !== '' && el('span', { class: 'line faint' }, `answers by the overlay: ${measured}`),
    ),
  );
}
