import { SingleRankCollective } from '../../../shard-worker/collective/single-rank.js';
import { describeCollective } from '../../suites/collective.suite.js';

describeCollective('single-rank', {
  connect: async () => [new SingleRankCollective()],
  worldSizes: [1],
});
