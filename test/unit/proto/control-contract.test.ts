/** control.ts says by hand what control.proto says: every message, field and type of the one is in the other. */
import protobuf from 'protobufjs';
import { describe, expect, it } from 'vitest';
import { Finish } from '../../../proto/control.js';
import { readText } from '../../tidy/repository.js';

const NUMBERS = ['uint32', 'double', 'float'];
const PLAIN: Readonly<Record<string, string>> = { string: 'string', bool: 'boolean', bytes: 'Uint8Array' };
/** Messages that stand in control.ts without a name of their own. */
const UNNAMED: Readonly<Record<string, string>> = { IdList: '{ ids: number[] }', Inspect: '{ id: number }' };
/** The envelopes, told apart by `body`. */
const UNIONS = ['ToWorker', 'FromWorker'];

const { root } = protobuf.parse(readText('proto/control.proto'));
const space = root.lookup('shardserve') as protobuf.Namespace;
const messages = space.nestedArray.filter((one) => one instanceof protobuf.Type);

/** Of TypeScript's: field → type, without what may be absent or null. */
function interfaces(source: string): Map<string, Record<string, string>> {
  const code = source.replace(/\/\*\*.*?\*\//gs, '');
  const found = [...code.matchAll(/export interface (\w+) \{\n(.*?)\n\}/gs)];
  return new Map(
    found.map(([, name, body]) => [
      name!,
      Object.fromEntries(
        [...body!.matchAll(/^ {2}(\w+)\??: (.*);$/gm)].map(([, field, type]) => [
          field!,
          type!.replace(/ \| null$/, ''),
        ]),
      ),
    ]),
  );
}

function typeOf(field: protobuf.Field): string {
  const one = NUMBERS.includes(field.type)
    ? 'number'
    : (PLAIN[field.type] ?? UNNAMED[field.type] ?? field.type);
  if (field instanceof protobuf.MapField) return `Record<number, ${one}>`;
  return field.repeated ? `${one}[]` : one;
}

const fieldsOf = (message: protobuf.Type): Record<string, string> =>
  Object.fromEntries(message.fieldsArray.map((field) => [field.name, typeOf(field)]));

describe('control.ts and control.proto', () => {
  const typed = interfaces(readText('proto/control.ts'));

  it('have the same messages', () => {
    const inProto = messages
      .map(({ name }) => name)
      .filter((name) => !(name in UNNAMED) && !UNIONS.includes(name));
    // An empty one has no type of its own.
    expect([...typed.keys(), 'Shutdown'].sort()).toEqual(inProto.sort());
  });

  it.each([...typed.keys()])('agree on the fields of %s', (name) => {
    expect(typed.get(name)).toEqual(fieldsOf(root.lookupType(`shardserve.${name}`)));
  });

  it.each(UNIONS)('agree on the bodies of %s', (name) => {
    const [, union] = new RegExp(`export type ${name} =\\n(.*?);\\n\\n`, 's').exec(
      readText('proto/control.ts'),
    )!;
    const members = [...union!.matchAll(/body: '(\w+)'; (\w+): (.*?) \}$/gm)];
    const { oneofs } = root.lookupType(`shardserve.${name}`);
    const bodies = oneofs.body!.fieldsArray.map((field) => [field.name, field.name, typeOf(field)]);
    const shown = (type: string): string => (type === 'Record<string, never>' ? 'Shutdown' : type);
    expect(members.map(([, tag, field, type]) => [tag, field, shown(type!)]).sort()).toEqual(bodies.sort());
  });

  it('number the ends of a row alike', () => {
    expect(root.lookupEnum('shardserve.Finish').values).toEqual(Finish);
  });
});
