/** Where packets from pods of this cluster come from. */
export type PodSource =
  | { readonly network: string }
  /** An interface; with `+` at the end, all whose names begin so. */
  | { readonly device: string };
