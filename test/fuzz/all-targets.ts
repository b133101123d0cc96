/** Every parser of strangers' bytes that is fuzzed. A new one is a line in one of these lists. */
import type { FuzzTarget } from './fuzz-target.js';
import { ARCHIVE_TARGETS } from './targets/archives.js';
import { CHECKPOINT_TARGETS } from './targets/checkpoints.js';
import { CONFIGURATION_TARGETS } from './targets/configuration.js';
import { PROGRAM_TARGETS } from './targets/programs.js';
import { REQUEST_TARGETS } from './targets/requests.js';

export const ALL_TARGETS: readonly FuzzTarget[] = [
  ...CONFIGURATION_TARGETS,
  ...CHECKPOINT_TARGETS,
  ...REQUEST_TARGETS,
  ...ARCHIVE_TARGETS,
  ...PROGRAM_TARGETS,
];
