/**
 * How a child of a program ends with it, whatever it is doing: the kernel kills it. A closed pipe or channel is seen only by who comes to
 * read it, and what spins in a stranger's expression or archive never does.
 *
 * Out     arguments for Node, before the child's program, and the variable that goes with them
 */
export const PARENT_PID = 'SHARDSERVE_PARENT_PID';

export const BOUND: readonly string[] = ['--import', new URL('./bound-to-parent.js', import.meta.url).href];

/** An environment with this process as the parent that the child ends with. */
export const boundEnvironment = (environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv => ({
  ...environment,
  [PARENT_PID]: String(process.pid),
});
