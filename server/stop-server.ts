/**
 * The order in which the server ends, on one budget of time.
 *
 * In      its parts; how long running requests may take
 * Out     resolves when nothing of it is left
 * Limits  requests and their readers get `drainMs` together; the workers' own grace (6 s) and the log's (1 s) come on top
 * Errors  those of the parts
 */
/** A reader that is there takes the end of its answer within this, also where the requests have used up the budget. */
const MIN_READER_MS = 1000;

export interface ServerParts {
  http: { setDraining(): void; close(limitMs: number): Promise<void> };
  grpc: { setDraining(): void; close(limitMs: number): Promise<void> } | null;
  manager: { drain(limitMs: number): Promise<void>; close(): Promise<void> };
  log: { close(): Promise<void> };
}

export async function stopServer(
  { grpc, http, log, manager }: ServerParts,
  drainMs: number,
  nowMs: () => number = () => performance.now(),
): Promise<void> {
  const endMs = nowMs() + drainMs;
  http.setDraining();
  grpc?.setDraining();
  await manager.drain(drainMs);
  const leftMs = Math.max(Math.min(drainMs, MIN_READER_MS), endMs - nowMs());
  // First the jobs that are left: their streams end, and with them the connections that close() waits for.
  await manager.close();
  await Promise.all([http.close(leftMs), grpc?.close(leftMs)]);
  await log.close();
}
