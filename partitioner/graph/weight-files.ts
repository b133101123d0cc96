/** Names of the weights files, relative to the shard folder. */
export const SHARED_WEIGHTS = 'shared.weights';
export const rankWeights = (rank: number): string => `rank-${rank}.weights`;
