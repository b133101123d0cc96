/** Names and versions: what is taken, what is found, who gets the next request. */
import { describe, expect, it } from 'vitest';
import { ModelRegistry } from '../../../../server/work-load-manager/model-registry.js';

interface Entry {
  name: string;
  version: string | null;
  serves: boolean;
}

const entry = (name: string, version: string | null = null, serves = true): Entry => ({
  name,
  version,
  serves,
});

function registryOf(...entries: Entry[]) {
  const registry = new ModelRegistry<Entry>((model) => model.serves);
  for (const model of entries) registry.add(model);
  return registry;
}

describe('the registry', () => {
  it.each([
    ['an unversioned model', entry('m'), entry('m'), 'Workflow m is already registered.'],
    [
      'an unversioned model beside a version',
      entry('m', 'v1'),
      entry('m'),
      'Workflow m is already registered.',
    ],
    ['the same version', entry('m', 'v1'), entry('m', 'v1'), 'Workflow m:v1 is already registered.'],
  ])('refuses %s', (_name, first, second, message) => {
    expect(() => registryOf(first, second)).toThrow(
      expect.objectContaining({ code: 'ALREADY_REGISTERED', message }),
    );
  });

  it('takes another version, also beside an unversioned model, and a name that is free again', () => {
    const first = entry('m');
    const registry = registryOf(first, entry('m', 'v1'), entry('m', 'v2'), entry('n'));
    expect(registry.all()).toHaveLength(4);
    registry.remove(registry.find('n', null)[0]!);
    registry.add(entry('n'));
    for (const model of registry.find('m', null)) registry.remove(model);
    expect(() => registry.find('m', null)).toThrow(
      expect.objectContaining({ code: 'MODEL_NOT_FOUND', message: 'Model or workflow not found: m' }),
    );
  });

  it('finds one version exactly, or all in the order of their registration', () => {
    const registry = registryOf(entry('m', 'b'), entry('m', 'a'));
    expect(registry.find('m', null).map(({ version }) => version)).toEqual(['b', 'a']);
    expect(registry.pick('m', 'a').version).toBe('a');
    expect(() => registry.pick('m', 'c')).toThrow('Model or workflow not found: m/c');
  });

  it('gives requests without a version to the versions in turn; one with a version does not shift the turn', () => {
    const registry = registryOf(entry('m', '1'), entry('m', '2'), entry('m', '3'));
    const picked = () => registry.pick('m', null).version;
    expect([picked(), picked()]).toEqual(['1', '2']);
    registry.pick('m', '1');
    expect([picked(), picked()]).toEqual(['3', '1']);
  });

  it('passes over versions that cannot serve, while one can', () => {
    const [loading, ready] = [entry('m', '2', false), entry('m', '1')];
    const registry = registryOf(ready, loading);
    const picked = () => registry.pick('m', null).version;
    expect([picked(), picked(), picked()]).toEqual(['1', '1', '1']);
    ready.serves = false;
    expect(new Set([picked(), picked()])).toEqual(new Set(['1', '2']));
  });
});

describe('versions by their weights', () => {
  const counted = (registry: ModelRegistry<Entry>, requests: number) => {
    const counts: Record<string, number> = {};
    for (let request = 0; request < requests; request += 1) {
      const { version } = registry.pick('m', null);
      counts[version!] = (counts[version!] ?? 0) + 1;
    }
    return counts;
  };

  it('get exactly their shares, spread evenly, and the rest where one cannot serve', () => {
    const [first, second] = [entry('m', '1'), entry('m', '2')];
    const registry = registryOf(first, second);
    registry.setWeight(second, 3);
    const turns = Array.from({ length: 8 }, () => registry.pick('m', null).version).join('');
    expect(turns).toBe('21222122');
    registry.setWeight(first, 7);
    expect(counted(registry, 1000)).toEqual({ 1: 700, 2: 300 });
    first.serves = false;
    expect(counted(registry, 10)).toEqual({ 2: 10 });
  });

  it('of 0 serve only who names them, or all where nothing else is left', () => {
    const [first, second] = [entry('m', '1'), entry('m', '2')];
    const registry = registryOf(first, second);
    registry.setWeight(second, 0);
    expect(counted(registry, 10)).toEqual({ 1: 10 });
    expect(registry.pick('m', '2')).toBe(second);
    registry.remove(first);
    expect(counted(registry, 3)).toEqual({ 2: 3 });
    const third = entry('m', '3');
    registry.add(third, 0);
    expect(counted(registry, 4)).toEqual({ 2: 2, 3: 2 });
  });

  it('hold a session at one version, share sessions as they share requests, and move no more of them than they must', () => {
    const [first, second] = [entry('m', '1'), entry('m', '2')];
    const registry = registryOf(first, second);
    registry.setWeight(second, 3);
    const sessions = Array.from({ length: 4000 }, (_, index) => `session ${index}`);
    const homes = () => sessions.map((session) => registry.pick('m', null, session).version);
    const before = homes();
    expect(homes()).toEqual(before);
    const share = before.filter((version) => version === '2').length / sessions.length;
    expect(share).toBeGreaterThan(0.72);
    expect(share).toBeLessThan(0.78);
    // A third one of the same weight as the first takes a fifth of each, and nobody changes between the two.
    registry.add(entry('m', '3'));
    const after = homes();
    const moved = after.filter((version, index) => version !== before[index]);
    expect(new Set(moved)).toEqual(new Set(['3']));
    expect(moved.length / sessions.length).toBeLessThan(0.23);
    first.serves = false;
    expect(homes().filter((version, index) => after[index] !== '1' && version !== after[index])).toEqual([]);
    // Turns go on as if there were no sessions.
    first.serves = true;
    expect(counted(registry, 10)).toEqual({ 1: 2, 2: 6, 3: 2 });
  });
});

describe('versions by the default rule', () => {
  it('give what asks for none the first, another that is chosen, and the next where that one goes', () => {
    const registry = new ModelRegistry<Entry>(() => true, 'default');
    const [first, second] = [entry('m', '1.0'), entry('m', '2.0')];
    registry.add(first);
    registry.add(second);
    expect([registry.pick('m', null), registry.pick('m', null)]).toEqual([first, first]);
    registry.setDefault('m', '2.0');
    expect(registry.pick('m', null)).toBe(second);
    expect([registry.isDefault(first), registry.isDefault(second)]).toEqual([false, true]);
    expect(registry.pick('m', '1.0')).toBe(first);
    registry.remove(second);
    expect(registry.pick('m', null)).toBe(first);
    expect(() => registry.setDefault('m', '3.0')).toThrow('Model or workflow not found: m/3.0');
  });
});
