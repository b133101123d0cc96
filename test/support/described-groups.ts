/** The worker groups of a model, as GET /models/NAME of a running server tells them. */
import type { ServerProcess } from './server-process.js';

export interface DescribedGroup {
  id: number;
  state: string;
  /** By rank; null while there is none. */
  pids: (number | null)[];
}

export interface DescribedModel {
  status: string;
  failure: { code: string; message: string } | null;
  groups: DescribedGroup[];
}

interface Body {
  models: {
    status: string;
    failure?: { code: string; message: string };
    workerGroups: { workers: { id: number; state: string; ranks: { rank: number; pid?: number }[] }[] }[];
  }[];
}

export async function describedModel(server: ServerProcess, name = 'embedded'): Promise<DescribedModel> {
  const response = await fetch(`${server.url}/models/${name}`);
  const [described] = (await response.json()) as Body[];
  const { failure = null, status, workerGroups } = described!.models[0]!;
  const groups = workerGroups.flatMap(({ workers }) =>
    workers.map(({ id, ranks, state }) => ({ id, state, pids: ranks.map(({ pid }) => pid ?? null) })),
  );
  return { status, failure, groups };
}
