/**
 * An image without some of its regions: what an explanation leaves out.
 *
 * In      an image; REGIONS × REGIONS marks, row by row: 1 stays, 0 goes
 * Out     an image of the same size, in which what goes has the colour that a model reads as 0, ImageNet's mean
 * Errors  PredictionException 400: as many marks as there are no regions
 * Pure
 */
import { MEAN, type Pixels } from '../../../../pipeline/pixels.js';
import { PredictionException } from '../base-handler.js';

/** Along a side: small enough for a part of a thing, few enough to ask for each. */
export const REGIONS = 8;
const GREY = MEAN.map((mean) => Math.round(mean * 255));

export function withRegions({ data, height, width }: Pixels, kept: string): Pixels {
  if (!/^[01]+$/.test(kept) || kept.length !== REGIONS * REGIONS)
    throw new PredictionException(`An image has ${REGIONS * REGIONS} regions, each 0 or 1`, 400);
  const changed = data.slice();
  for (let row = 0; row < height; row++) {
    const regionRow = Math.floor((row * REGIONS) / height) * REGIONS;
    for (let column = 0; column < width; column++) {
      if (kept[regionRow + Math.floor((column * REGIONS) / width)] === '1') continue;
      changed.set(GREY, (row * width + column) * 3);
    }
  }
  return { data: changed, height, width };
}
