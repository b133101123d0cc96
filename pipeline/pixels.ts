/**
 * Images as pixels: opened, resized, cropped, and as numbers.
 *
 * In      JPEG, PNG, WebP, GIF (the first picture), TIFF; turned as their EXIF says, without transparency
 * Out     three bytes a pixel, row by row
 * Limits  MAX_PIXELS an image, as it is and as it becomes
 * Errors  ServingError BAD_REQUEST: it cannot be read, or is smaller than the crop
 * Source  sharp (libvips); bilinear over all pixels that a new one covers, as PIL's and torchvision's antialiased resize
 */
import sharp, { type Sharp } from 'sharp';
import { ServingError } from '../proto/errors.js';

export const MAX_PIXELS = 64 * 1024 * 1024;
/** ImageNet's. */
export const MEAN: readonly number[] = [0.485, 0.456, 0.406];
export const DEVIATION: readonly number[] = [0.229, 0.224, 0.225];

export interface Pixels {
  data: Uint8Array;
  width: number;
  height: number;
}

const bad = (message: string): ServingError => new ServingError('BAD_REQUEST', message);

/** @throws ServingError BAD_REQUEST */
export async function decodedImage(bytes: Uint8Array): Promise<Pixels> {
  // The library throws of it before there is anything to wait for.
  if (bytes.length === 0) throw bad('There is no image: it has no bytes');
  return pixelsOf(
    sharp(bytes, { limitInputPixels: MAX_PIXELS }).rotate().removeAlpha().toColourspace('srgb'),
  );
}

/** The shorter side to `side`, the other in proportion. @throws ServingError BAD_REQUEST */
export async function resizedShorter({ data, height, width }: Pixels, side: number): Promise<Pixels> {
  // A line of a pixel's width, whose file is small, would take gigabytes.
  const pixels = (side * side * Math.max(width, height)) / Math.min(width, height);
  if (pixels > MAX_PIXELS)
    throw bad(
      `An image of ${width} × ${height} pixels whose shorter side becomes ${side} has ${Math.round(pixels)} pixels then, of at most ${MAX_PIXELS}`,
    );
  return pixelsOf(
    sharp(data, { raw: { width, height, channels: 3 } }).resize({
      ...{ width: side, height: side, fit: 'outside', kernel: 'linear' },
    }),
  );
}

/** The middle. @throws ServingError BAD_REQUEST */
export function centreCropped(image: Pixels, height: number, width: number): Pixels {
  const left = Math.round((image.width - width) / 2);
  const top = Math.round((image.height - height) / 2);
  return croppedAt(image, left, top, height, width);
}

/** @throws ServingError BAD_REQUEST */
export function croppedAt(image: Pixels, left: number, top: number, height: number, width: number): Pixels {
  if (left < 0 || top < 0 || image.width < width || image.height < height)
    throw bad(
      `An image of ${image.width} × ${image.height} pixels is smaller than the crop, ${width} × ${height}`,
    );
  const data = new Uint8Array(height * width * 3);
  for (let row = 0; row < height; row++) {
    const start = ((top + row) * image.width + left) * 3;
    data.set(image.data.subarray(start, start + width * 3), row * width * 3);
  }
  return { data, width, height };
}

/** Channel by channel, from 0 to 1, or by mean and deviation. */
export function planesOf(
  { data, height, width }: Pixels,
  mean: readonly number[] = [0, 0, 0],
  deviation: readonly number[] = [1, 1, 1],
): Float32Array {
  const plane = height * width;
  const planes = new Float32Array(3 * plane);
  for (let pixel = 0; pixel < plane; pixel++)
    for (let channel = 0; channel < 3; channel++)
      planes[channel * plane + pixel] =
        (data[pixel * 3 + channel]! / 255 - mean[channel]!) / deviation[channel]!;
  return planes;
}

async function pixelsOf(image: Sharp): Promise<Pixels> {
  try {
    const { data, info } = await image.raw().toBuffer({ resolveWithObject: true });
    // Grey images have one band.
    if (info.channels !== 3) throw new Error(`it has ${info.channels} channels`);
    return { data, width: info.width, height: info.height };
  } catch (error) {
    throw bad(`The image cannot be read: ${(error as Error).message.split('\n')[0]}`);
  }
}
