/** What a node's rules are made with. */
export type RulesTool = 'iptables' | 'nftables';
