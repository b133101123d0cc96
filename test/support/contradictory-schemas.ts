/**
 * Random JSON schemas that no value satisfies, each with the place where it cannot.
 *
 * In      SeededRandom
 * Out     a schema, deep within which something contradicts itself; its place as refusals name it, or a part of it from the left
 */
import type { SeededRandom } from '../fixtures/seeded-random.js';
import { randomSchema } from './random-schemas.js';

type Schema = Record<string, unknown> | boolean;

const object = (properties: object, more: object = {}): Schema => ({ type: 'object', properties, ...more });

/** Each by itself has no value. */
const CONTRADICTIONS: readonly Schema[] = [
  false,
  { type: 'integer', minimum: 5, maximum: 4 },
  { type: 'integer', exclusiveMinimum: 1, exclusiveMaximum: 2 },
  { type: 'number', minimum: 0.5, exclusiveMaximum: 0.5 },
  { type: 'integer', multipleOf: 7, minimum: 1, maximum: 6 },
  { type: 'string', minLength: 5, maxLength: 2 },
  { type: 'string', pattern: '^a$', minLength: 2 },
  { type: 'string', pattern: '^[0-9]+$', format: 'email' },
  { type: 'string', format: 'date', maxLength: 3 },
  { type: 'integer', enum: ['a', null] },
  { const: 1, minimum: 2 },
  { enum: ['red', 'green'], pattern: '^b' },
  { allOf: [{ type: 'string' }, { type: 'integer' }] },
  { allOf: [{ enum: [1, 2] }, { enum: [3] }] },
  { anyOf: [false, { type: 'integer', minimum: 3, maximum: 2 }] },
  { type: 'array', items: { type: 'null' }, minItems: 3, maxItems: 2 },
  { type: 'array', items: false, minItems: 1 },
  { type: 'array', prefixItems: [{ type: 'null' }], items: false, minItems: 2 },
  { type: 'array', items: { enum: [1, 2] }, uniqueItems: true, minItems: 3 },
  object({ x: { type: 'boolean' } }, { required: ['y'], additionalProperties: false }),
  object({ x: { type: 'null' } }, { minProperties: 2, additionalProperties: false }),
  object({ x: { type: 'null' } }, { required: ['x'], maxProperties: 0, additionalProperties: false }),
  // It has no end.
  { $ref: '#/$defs/loop' },
  { $ref: '#/$defs/pair' },
];

const DEFS = {
  // The sound ones lead here.
  node: { type: 'null' },
  loop: object({ next: { $ref: '#/$defs/loop' } }, { required: ['next'] }),
  pair: { type: 'array', prefixItems: [{ $ref: '#/$defs/other' }], items: false, minItems: 1 },
  other: object({ back: { $ref: '#/$defs/pair' } }, { required: ['back'] }),
};

export function contradictorySchema(random: SeededRandom): { schema: Schema; place: string } {
  let [schema, place] = [random.pick(CONTRADICTIONS), ''];
  for (let depth = random.integer(0, 4); depth > 0; depth--) {
    const [around, at] = within(schema, random);
    schema = around;
    place = at + place;
  }
  // What leads back is found out as a whole.
  const isLoop = JSON.stringify(schema).includes('$ref');
  return {
    schema: typeof schema === 'boolean' ? schema : { ...schema, $defs: DEFS },
    place: isLoop ? '$' : `$${place}`,
  };
}

/** One that cannot be because of this. */
function within(schema: Schema, random: SeededRandom): [Schema, string] {
  const sound = randomSchema(random, 1);
  switch (random.integer(0, 4)) {
    case 0:
      return [object({ before: sound, it: schema, after: sound }, { required: ['it'] }), '.properties.it'];
    case 1:
      // Another that cannot be, and need not.
      return [
        object({ idle: false, it: schema }, { required: ['it'], additionalProperties: false }),
        '.properties.it',
      ];
    case 2:
      return [
        { type: 'array', items: schema, minItems: random.integer(1, 3) },
        // No items are none: it is the list that cannot be.
        schema === false ? '' : '.items',
      ];
    case 3:
      return [{ anyOf: [schema, { type: 'string', minLength: 2, maxLength: 1 }] }, '.anyOf[0]'];
    default:
      return [{ type: 'array', prefixItems: [sound, schema], minItems: 2, items: false }, '.prefixItems[1]'];
  }
}
