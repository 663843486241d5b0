/** Something of ours on a node that `twill cleanup` takes away, or puts back. */
export interface Removal {
  /** What is done, as a sentence without its end: `device flannel.1: removed`. */
  readonly what: string;
  /** Doing it when it is done already is fine. */
  readonly apply: () => void | Promise<void>;
}
