/**
 * What may be varied: dimensions of ordered values, and points in their grid.
 *
 * In      dimensions by name (MODEL.KEY of serving.properties, server.KEY, load)
 * Out     points (an index a dimension), their settings, neighbours, the grid in order
 * Limits  MAX_DIMENSIONS, MAX_VALUES a dimension
 * Errors  Error naming the dimension
 */
export type SettingValue = string | number | boolean;
export type Settings = Readonly<Record<string, SettingValue>>;
export type Point = readonly number[];

export interface Dimension {
  name: string;
  /** In an order that means something where they are numbers: neighbours are near. */
  values: readonly SettingValue[];
}

export const MAX_DIMENSIONS = 16;
export const MAX_VALUES = 256;

export class Space {
  readonly dimensions: readonly Dimension[];

  constructor(dimensions: readonly Dimension[]) {
    if (dimensions.length > MAX_DIMENSIONS) {
      throw new Error(`the space has ${dimensions.length} dimensions, ${MAX_DIMENSIONS} may be`);
    }
    for (const { name, values } of dimensions) {
      if (values.length === 0 || values.length > MAX_VALUES) {
        throw new Error(`${name} has ${values.length} values, 1 … ${MAX_VALUES} may be`);
      }
      if (new Set(values).size !== values.length)
        throw new Error(`${name} names a value twice: ${values.join(', ')}`);
    }
    this.dimensions = dimensions;
  }

  get size(): number {
    return this.dimensions.reduce((product, { values }) => product * values.length, 1);
  }

  settings(point: Point): Settings {
    return Object.fromEntries(this.dimensions.map(({ name, values }, axis) => [name, values[point[axis]!]!]));
  }

  /** All of them, the last dimension fastest. */
  *points(): Generator<Point> {
    const sizes = this.dimensions.map(({ values }) => values.length);
    for (let index = 0; index < this.size; index++) {
      const point: number[] = [];
      let rest = index;
      for (let axis = sizes.length - 1; axis >= 0; axis--) {
        point[axis] = rest % sizes[axis]!;
        rest = Math.floor(rest / sizes[axis]!);
      }
      yield point;
    }
  }

  /** One axis moved; null: out of the grid. */
  moved(point: Point, axis: number, by: number): Point | null {
    const to = point[axis]! + by;
    if (to < 0 || to >= this.dimensions[axis]!.values.length) return null;
    return point.map((at, index) => (index === axis ? to : at));
  }
}

export const pointKey = (point: Point): string => point.join(',');
