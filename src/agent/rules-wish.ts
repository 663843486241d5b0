/** What `--rules` may be: `network` is flannel's EnableNFTables in the network configuration. */
export const rulesWishes = ['network', 'iptables', 'nftables', 'auto'] as const;
export type RulesWish = (typeof rulesWishes)[number];
