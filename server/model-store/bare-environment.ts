/**
 * Environment of a process that handles what comes with a model, archives and templates: none, so that no token or key is in its
 * reach. Only what measures the tests' coverage is passed on, and whether this machine's kernels may be used.
 */
const PASSED = ['NODE_V8_COVERAGE', 'SHARDSERVE_KERNELS'];

export function bareEnvironment(): Record<string, string> {
  return Object.fromEntries(
    PASSED.flatMap((name) => {
      const value = process.env[name];
      return value === undefined ? [] : [[name, value]];
    }),
  );
}
