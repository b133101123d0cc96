/**
 * Environment of a process that handles what comes with a model, archives and templates: none, so that no token or key is in its
 * reach. Only where scratch files go, what measures the tests' coverage, and whether this machine's kernels may be used is passed on.
 * The parent is named, with which it ends (proto/bound-child.ts).
 */
import { boundEnvironment } from '../../proto/bound-child.js';

const PASSED = ['TMPDIR', 'NODE_V8_COVERAGE', 'SHARDSERVE_KERNELS'];

export function bareEnvironment(): NodeJS.ProcessEnv {
  const passed = Object.fromEntries(
    PASSED.flatMap((name) => {
      const value = process.env[name];
      return value === undefined ? [] : [[name, value]];
    }),
  );
  return boundEnvironment(passed);
}
