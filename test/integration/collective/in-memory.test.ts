import { createInMemoryCollectives } from '../../../shard-worker/collective/in-memory.js';
import { describeCollective } from '../../suites/collective.suite.js';

describeCollective('in-memory', {
  connect: async (worldSize, timeoutMs) => createInMemoryCollectives(worldSize, { timeoutMs }),
  worldSizes: [1, 2, 3, 4, 8],
});
