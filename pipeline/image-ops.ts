/**
 * Operators on images: as torchvision's transforms.
 *
 * In      bytes of an image, or images (tensors uint8 [height, width, 3]), or lists of either
 * Out     images; `planes`: one tensor float32 [3, height, width] an image; `stack`: one tensor of all
 * Limits  pixels.ts
 * Errors  ServingError BAD_REQUEST: no image, or images of different sizes to stack
 */
import { ServingError } from '../proto/errors.js';
import { makeOp, type OpFunction, type OpKind } from './op.js';
import { Tensor, type Value } from './pipeline-value.js';
import {
  centreCropped,
  croppedAt,
  DEVIATION,
  decodedImage,
  MEAN,
  type Pixels,
  planesOf,
  resizedShorter,
} from './pixels.js';
import type { Op } from './tracing.js';

const bad = (message: string): ServingError => new ServingError('BAD_REQUEST', message);

const imageOf = ({ data, height, width }: Pixels): Tensor => new Tensor('uint8', [height, width, 3], data);

function pixelsOfImage(name: string, value: Value): Pixels {
  if (
    !(value instanceof Tensor) ||
    value.kind !== 'uint8' ||
    value.shape.length !== 3 ||
    value.shape[2] !== 3
  )
    throw bad(`${name} takes images`);
  const [height = 0, width = 0] = value.shape;
  return { data: value.data as Uint8Array, width, height };
}

/** Each of a list beside the others. */
const each = (act: (value: Value) => Value | Promise<Value>): OpFunction => {
  const map = (value: Value): Value | Promise<Value> =>
    Array.isArray(value) ? Promise.all(value.map(map)) : act(value);
  return (value = null) => map(value);
};

/** In order: chance is drawn image by image. */
const mapImages = (value: Value, act: (image: Value) => Value): Value =>
  Array.isArray(value) ? value.map((one) => mapImages(one as Value, act)) : act(value);

function flipped(value: Value): Value {
  const { data, height, width } = pixelsOfImage('image.flip', value);
  const turned = new Uint8Array(data.length);
  for (let row = 0; row < height; row++)
    for (let column = 0; column < width; column++) {
      const from = (row * width + column) * 3;
      turned.set(data.subarray(from, from + 3), (row * width + width - 1 - column) * 3);
    }
  return imageOf({ data: turned, width, height });
}

/** Kinds of chance have makeChance in its place. */
const unmade: OpFunction = () => null;

const DECODE: OpKind = {
  name: 'image.decode@1',
  isExact: true,
  make: () =>
    each(async (value) => {
      if (!(value instanceof Uint8Array)) throw bad('image.decode takes the bytes of an image');
      return imageOf(await decodedImage(value));
    }),
};
const RESIZE: OpKind = {
  name: 'image.resize@1',
  isExact: false,
  make: ({ side }) =>
    each(async (value) =>
      imageOf(await resizedShorter(pixelsOfImage('image.resize', value), side as number)),
    ),
};
const CROP: OpKind = {
  name: 'image.centre-crop@1',
  isExact: true,
  make: ({ height, width }) =>
    each((value) =>
      imageOf(centreCropped(pixelsOfImage('image.centreCrop', value), height as number, width as number)),
    ),
};
const FLIP: OpKind = {
  name: 'image.flip@1',
  isExact: true,
  make: () => each(flipped),
};
const PLANES: OpKind = {
  name: 'image.planes@1',
  isExact: true,
  make: ({ deviation, mean }) =>
    each((value) => {
      const image = pixelsOfImage('image.planes', value);
      const planes = planesOf(image, mean as readonly number[], deviation as readonly number[]);
      return new Tensor('float32', [3, image.height, image.width], planes);
    }),
};
const STACK: OpKind = {
  name: 'image.stack@1',
  isExact: true,
  make: () => (value) => {
    const list = Array.isArray(value) ? (value as readonly Value[]) : [value ?? null];
    const tensors = list.map((one) => {
      if (one instanceof Tensor && one.kind === 'float32') return one;
      throw bad('image.stack takes tensors of floats');
    });
    const shape = tensors[0]?.shape ?? [];
    const odd = tensors.find((one) => one.shape.join() !== shape.join());
    if (odd)
      throw bad(
        `image.stack takes tensors of one shape, not [${shape.join(',')}] and [${odd.shape.join(',')}]`,
      );
    const data = new Float32Array(tensors.reduce((sum, one) => sum + one.data.length, 0));
    tensors.forEach((one, index) => {
      data.set(one.data as Float32Array, index * one.data.length);
    });
    return new Tensor('float32', [tensors.length, ...shape], data);
  },
};

/** A place by chance while a model is trained, the middle otherwise: a list's images each have their own. */
const RANDOM_CROP: OpKind = {
  name: 'image.random-crop@1',
  isExact: true,
  make: () => unmade,
  makeChance:
    ({ height, width }) =>
    ({ isTraining, random }, value = null) => {
      const act = (given: Value): Value => {
        const picture = pixelsOfImage('image.randomCrop', given);
        if (!isTraining) return imageOf(centreCropped(picture, height as number, width as number));
        const left = Math.floor(random() * (picture.width - (width as number) + 1));
        const top = Math.floor(random() * (picture.height - (height as number) + 1));
        return imageOf(croppedAt(picture, left, top, height as number, width as number));
      };
      return mapImages(value, act);
    },
};
const RANDOM_FLIP: OpKind = {
  name: 'image.random-flip@1',
  isExact: true,
  make: () => unmade,
  makeChance:
    ({ chance }) =>
    ({ isTraining, random }, value = null) =>
      mapImages(value, (given) => (isTraining && random() < (chance as number) ? flipped(given) : given)),
};

export const IMAGE_KINDS = [DECODE, RESIZE, CROP, FLIP, PLANES, STACK, RANDOM_CROP, RANDOM_FLIP];

export const image = {
  decode: (): Op => makeOp(DECODE),
  /** The shorter side. */
  resize: (side: number): Op => makeOp(RESIZE, { side }),
  centreCrop: (height: number, width = height): Op => makeOp(CROP, { height, width }),
  /** Left and right change places. */
  flip: (): Op => makeOp(FLIP),
  /** Channel by channel, by mean and deviation; ImageNet's where none are given. */
  planes: (mean: readonly number[] = MEAN, deviation: readonly number[] = DEVIATION): Op =>
    makeOp(PLANES, { mean: [...mean], deviation: [...deviation] }),
  stack: (): Op => makeOp(STACK),
  /** Somewhere by chance in training, the middle otherwise. */
  randomCrop: (height: number, width = height): Op => makeOp(RANDOM_CROP, { height, width }),
  /** By chance in training, never otherwise. */
  randomFlip: (chance = 0.5): Op => makeOp(RANDOM_FLIP, { chance }),
};
