import { describeError } from './error.ts';

/** Something of ours on a node that `twill cleanup` takes away, or puts back. */
export interface Removal {
  /** What is done, as a sentence without its end: `device flannel.1: removed`. */
  readonly what: string;
  /** Doing it when it is done already is fine. @returns what was done, where that can be said only afterwards */
  readonly apply: () => void | string | Promise<void> | Promise<string>;
  /** What it is, where it may as well be that of a flannel: of a name that flannel uses, too. */
  readonly flannels?: string;
  /** It is known by this that an agent was here: it goes when everything else has gone. */
  readonly witness?: boolean;
  /** Why nobody can tell whether it is there, or take it away; `apply` fails for the same reason. */
  readonly hindrance?: string;
}

/** What could hold something of ours and cannot be looked at: it must not pass for empty. */
export function hindered(what: string, error: Error): Removal {
  const apply = (): never => {
    throw error;
  };
  return { what, apply, hindrance: describeError(error) };
}
