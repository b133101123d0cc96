/** A ManagementService without workers: it keeps descriptions, and tests change them by hand. */
import { ServingError } from '../../proto/errors.js';
import type {
  GroupDescription,
  ManagementService,
  PoolDescription,
  RegisterRequest,
  Registration,
  ScaleRequest,
} from '../../server/requests/management.js';
import type { InferenceService } from '../../server/requests/service.js';

export function group(id: number, fields: Partial<GroupDescription> = {}): GroupDescription {
  return {
    id,
    startedAtMs: Date.UTC(2023, 5, 8, 8, 14, 16, 999),
    state: 'running',
    ranks: [
      { rank: 0, pid: 100 * id, device: 'cpu' },
      { rank: 1, pid: 100 * id + 1, device: 'cpu' },
    ],
    ...fields,
  };
}

export function pool(name: string, fields: Partial<PoolDescription> = {}): PoolDescription {
  return {
    name,
    version: null,
    url: `file:///models/${name}`,
    state: 'READY',
    healthy: true,
    loadedAtStartup: false,
    loading: null,
    failure: null,
    nextTryAtMs: null,
    tensorParallelDegree: 2,
    batchSize: 1,
    maxBatchDelayMs: 100,
    maxIdleSeconds: 60,
    queueSize: 100,
    requestsInQueue: 0,
    minGroups: 1,
    maxGroups: 1,
    groups: [group(1)],
    coresOversubscribed: false,
    ...fields,
  };
}

export class FakeManagement implements ManagementService {
  pools: PoolDescription[] = [];
  readonly registered: RegisterRequest[] = [];
  readonly scaled: ScaleRequest[] = [];
  /** What `ready` of the next registration does. */
  loading: Promise<void> = Promise.resolve();

  async register(request: RegisterRequest): Promise<Registration> {
    const name = request.name ?? request.url.split('/').at(-1)!;
    if (this.pools.some((one) => one.name === name && one.version === request.version)) {
      throw new ServingError('ALREADY_REGISTERED', `Workflow ${name} is already registered.`);
    }
    this.registered.push(request);
    this.pools.push(pool(name, { version: request.version, url: request.url }));
    return { name, version: request.version, ready: this.loading };
  }

  async unregister(name: string, version: string | null): Promise<void> {
    const gone = this.describe(name, version);
    this.pools = this.pools.filter((one) => !gone.includes(one));
  }

  async scale(name: string, version: string | null, request: ScaleRequest) {
    const found = this.describe(name, version);
    if (found.some(({ state }) => state !== 'READY')) {
      throw new ServingError('MODEL_NOT_READY', 'its own words');
    }
    this.scaled.push(request);
    const { minGroups = 1, maxGroups = 1 } = request;
    return found.map((one) => ({ name: one.name, version: one.version, minGroups, maxGroups }));
  }

  async retry(name: string, version: string | null): Promise<void> {
    for (const one of this.describe(name, version))
      this.pools[this.pools.indexOf(one)] = { ...one, state: 'READY', failure: null, nextTryAtMs: null };
  }

  async settled(name: string, version: string | null): Promise<void> {
    this.describe(name, version);
  }

  setDefault(name: string, version: string | null): void {
    const wanted = this.describe(name, version)[0];
    this.pools = this.pools.map((one) => (one.name === name ? { ...one, isDefault: one === wanted } : one));
  }

  setWeight(name: string, version: string | null, weight: number): number {
    const wanted = this.describe(name, version)[0]!;
    this.pools = this.pools.map((one) => (one === wanted ? { ...one, weight } : one));
    const all = this.describe(name, null).reduce((sum, one) => sum + (one.weight ?? 1), 0);
    return weight / all;
  }

  describe(name: string, version: string | null): readonly PoolDescription[] {
    const found = this.pools.filter(
      (one) => one.name === name && (version === null || one.version === version),
    );
    if (found.length === 0) throw new ServingError('MODEL_NOT_FOUND', 'its own words');
    return found;
  }

  list(): readonly PoolDescription[] {
    return this.pools.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  }
}

/** What a InferenceService knows, as descriptions: for tests that manage nothing. */
export function managementOf(service: InferenceService): ManagementService {
  const fake = new FakeManagement();
  fake.list = () =>
    service
      .models()
      .map(({ name, version, state, healthy, loadedAtStartup }) =>
        pool(name, { version, state, healthy, loadedAtStartup }),
      );
  return fake;
}
