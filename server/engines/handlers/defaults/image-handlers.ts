/**
 * TorchServe's handlers for images: image_classifier, object_detector, image_segmenter.
 *
 * In      a folder with an .onnx file of one input [n, 3, height, width], perhaps index_to_name.json; a request is an image (JPEG, PNG, WebP, GIF,
 *         TIFF), or its base64 in JSON
 * Out     image_classifier: {label: chance} of the best five, and of what an explanation asks for (requests/explained.ts); object_detector: [{label: [x1, y1, x2, y2], score}, …]; image_segmenter: for
 *         each row and column [class, chance]
 * Limits  those of pixels.ts; handler.threshold of model-config.yaml for detections, 0.5 unless it says otherwise
 * Errors  PredictionException 400: no image
 * Source  TorchServe's default handlers: sizes, means and deviations of ImageNet, the shapes of the answers
 */
import type { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node';
import {
  centreCropped,
  DEVIATION,
  decodedImage,
  MEAN,
  type Pixels,
  planesOf,
  resizedShorter,
} from '../../../../pipeline/pixels.js';
import { ServingError } from '../../../../proto/errors.js';
import { FEATURES_HEADER, KEPT_HEADER, TARGET_HEADER } from '../../../requests/explained.js';
import { BaseHandler, PredictionException, type RequestData } from '../base-handler.js';
import type { Context } from '../context.js';
import { REGIONS, withRegions } from './image-regions.js';
import { labelNames } from './label-names.js';
import { rowsOf, softmax } from './tensor-rows.js';

const CROP = 224;
/** A factor of the shorter side, before the crop: 256 for 224. */
const MARGIN = 256 / 224;
const BEST = 5;

abstract class ImageHandler extends BaseHandler {
  protected nameOf: (index: number) => string = String;
  /** Height and width that the model takes; null: any. */
  protected size: readonly [number, number] | null = null;

  override async initialize(context: Context): Promise<void> {
    await super.initialize(context);
    const [input] = this.session?.inputMetadata ?? [];
    if (!input?.isTensor) throw new Error('there is no .onnx file with an input of images in the model');
    const [height, width] = input.shape.slice(-2);
    if (typeof height === 'number' && typeof width === 'number' && height > 0 && width > 0)
      this.size = [height, width];
    this.nameOf = labelNames(context.systemProperties.model_dir);
  }

  protected async tensorOf(
    images: readonly Pixels[],
    normalise: boolean,
  ): Promise<InferenceSession.FeedsType> {
    const { Tensor } = await import('onnxruntime-node');
    const [{ height, width } = { height: 0, width: 0 }] = images;
    const size = 3 * height * width;
    const data = new Float32Array(images.length * size);
    images.forEach((image, at) => {
      data.set(normalise ? planesOf(image, MEAN, DEVIATION) : planesOf(image), at * size);
    });
    return { [this.session!.inputNames[0]!]: new Tensor('float32', data, [images.length, 3, height, width]) };
  }
}

/** Resized and cropped as for ImageNet. */
abstract class CroppedImageHandler extends ImageHandler {
  override async preprocess(data: readonly RequestData[]): Promise<unknown> {
    const [height, width] = this.size ?? [CROP, CROP];
    const images = data.map(async (one, at) => this.shown(await cropped(bytesOf(one), height, width), at));
    return this.tensorOf(await Promise.all(images), true);
  }

  /** What of a request's image the model sees. @param at its place in the batch */
  protected shown(image: Pixels, _at: number): Pixels {
    return image;
  }
}

export class ImageClassifier extends CroppedImageHandler {
  protected override shown(image: Pixels, at: number): Pixels {
    const kept = this.context.getRequestHeader(at, KEPT_HEADER);
    return kept === undefined ? image : withRegions(image, kept);
  }

  override async postprocess(outputs: unknown): Promise<Record<string, number>[]> {
    const tensor = (outputs as Record<string, OrtTensor>)[this.session!.outputNames[0]!]!;
    return rowsOf(tensor).map((row, at) => {
      const asked = this.context.getRequestHeader(at, TARGET_HEADER);
      if (this.context.getRequestHeader(at, 'explain') === 'True')
        this.context.setResponseHeader(at, FEATURES_HEADER, `${REGIONS},${REGIONS}`);
      const told = softmax(row)
        .map((chance, index) => ({ chance, name: this.nameOf(index) }))
        .sort((a, b) => b.chance - a.chance)
        .filter(({ name }, place) => place < BEST || name === asked);
      return Object.fromEntries(told.map(({ chance, name }) => [name, chance]));
    });
  }
}

export class ImageSegmenter extends CroppedImageHandler {
  override async postprocess(outputs: unknown): Promise<[number, number][][][]> {
    const { data, dims } = (outputs as Record<string, OrtTensor>)[this.session!.outputNames[0]!]!;
    const [count = 0, classes = 0, height = 0, width = 0] = dims;
    const plane = height * width;
    return Array.from({ length: count }, (_image, image) =>
      Array.from({ length: height }, (_row, row) =>
        Array.from({ length: width }, (_column, column): [number, number] => {
          const at = image * classes * plane + row * width + column;
          const chances = softmax(
            Array.from({ length: classes }, (_one, index) => Number(data[at + index * plane])),
          );
          const best = chances.indexOf(Math.max(...chances));
          return [best, chances[best]!];
        }),
      ),
    );
  }
}

export type Detection = Record<string, number | readonly number[]>;

/** Its model takes one image and gives boxes [n, 4], labels [n] and scores [n]. */
export class ObjectDetector extends ImageHandler {
  #threshold = 0.5;

  override async initialize(context: Context): Promise<void> {
    await super.initialize(context);
    const { threshold } = (context.modelYamlConfig.handler ?? {}) as { threshold?: unknown };
    if (typeof threshold === 'number') this.#threshold = threshold;
    const missing = ['boxes', 'labels', 'scores'].filter((name) => !this.session!.outputNames.includes(name));
    if (missing.length > 0) throw new Error(`the model has no output ${missing.join(', ')}`);
  }

  override async preprocess(data: readonly RequestData[]): Promise<unknown> {
    return Promise.all(data.map(async (one) => this.tensorOf([await whole(bytesOf(one))], false)));
  }

  /** Images have sizes of their own: one after the other. */
  override async inference(data: unknown): Promise<unknown> {
    const answers: unknown[] = [];
    for (const feeds of data as InferenceSession.FeedsType[]) answers.push(await this.session!.run(feeds));
    return answers;
  }

  override async postprocess(answers: unknown): Promise<Detection[][]> {
    return (answers as Record<'boxes' | 'labels' | 'scores', OrtTensor>[]).map(
      ({ boxes, labels, scores }) => {
        const corners = rowsOf(boxes);
        return Array.from(scores.data as ArrayLike<number>, Number).flatMap((score, index): Detection[] =>
          score < this.#threshold
            ? []
            : [{ [this.nameOf(Number(labels.data[index]))]: corners[index]!, score }],
        );
      },
    );
  }
}

function bytesOf(data: RequestData): Uint8Array {
  const value = data.data ?? data.body;
  if (value instanceof Uint8Array) return value;
  if (typeof value === 'string') return Buffer.from(value, 'base64');
  throw new PredictionException('A request must be an image, or its base64', 400);
}

const whole = (bytes: Uint8Array): Promise<Pixels> => asRefusal(() => decodedImage(bytes));

/** The shorter side to MARGIN of the crop, then the middle. */
const cropped = (bytes: Uint8Array, height: number, width: number): Promise<Pixels> =>
  asRefusal(async () => {
    const side = Math.round(Math.max(height, width) * MARGIN);
    return centreCropped(await resizedShorter(await decodedImage(bytes), side), height, width);
  });

async function asRefusal<T>(act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (error instanceof ServingError) throw new PredictionException(error.message, 400);
    throw error;
  }
}
