/**
 * Environment of a process that handles what comes with a model, archives and templates: none, so that no token or key is in its
 * reach. Only what measures the tests' coverage is passed on.
 */
export function bareEnvironment(): Record<string, string> {
  const coverage = process.env.NODE_V8_COVERAGE;
  return coverage === undefined ? {} : { NODE_V8_COVERAGE: coverage };
}
