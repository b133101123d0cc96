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
