/**
 * The partitioner's command line: what its words mean.
 *
 * In      arguments, as USAGE tells them; or `--request`, the server's JSON (proto/partition.ts)
 * Out     CommandLine
 * Errors  CONFIG_INVALID: an option that is not known, or a value that is none of its own
 */
import { parseArgs } from 'node:util';
import { ServingError } from '../../proto/errors.js';
import {
  ACTIVATION_BITS,
  DTYPES,
  EIGHT_BIT_GROUPS,
  LAYOUTS,
  type PartitionRequest,
  REPRODUCIBLE_DEGREES,
  readPartitionRequest,
  SCALES,
  SHARD_DEVICES,
} from '../../proto/partition.js';
import { shapeFolder, shapeNames } from '../named-shapes.js';
import type { PartitionOptions } from '../partition.js';
import { BLOCK_SIZES } from '../quantise/block-quantise.js';
import {
  DEFAULT_BLOCK_SIZE,
  DEFAULT_REPRODUCIBLE_DEGREE,
  type EightBitGroup,
} from '../quantise/weight-format.js';

export const USAGE = `Usage: shardserve partition DIR [options]

Split a Hugging Face checkpoint (config.json, *.safetensors) into shards, one a rank.

  --tp N             tensor parallel degree: ranks to split over (default 1)
  --dtype TYPE       ${DTYPES.join(', ')} (default auto: fp32 below 200 MB and for encoders, int8 below
                     a billion parameters, else int4, which a checkpoint of 4-bit codes stays at any size)
  --layout HOW       of the weights: panels, which our own kernels read as they are, or blocks for ONNX Runtime's operators (default
                     auto: panels where the machine has the kernels; SHARDSERVE_KERNELS=off: it has none)
  --device KIND      what the shards are for: cpu (default), webgpu or cuda, whose weights are laid out in blocks
  --block-size N     weights that share a scale with int8 and int4: ${BLOCK_SIZES.join(', ')} (default ${DEFAULT_BLOCK_SIZE})
  --asymmetric       a zero point for each block of int8 and int4; --symmetric: none (default: int4 has them in panels)
  --eight-bit LIST   linears that int4 leaves at 8 bits: ${EIGHT_BIT_GROUPS.join(', ')} (the head; what makes queries, keys
                     and values; all of the first or last layer; the MLPs' down projections), with commas; none. Default: in panels the
                     head, below a billion parameters qkv too, and of at least 12 layers the first and the last
  --scales HOW       of int4, and of int8 below a billion parameters: search (default) takes the best of several by squared error, nearest
                     that of the largest weight
  --calibrate HOW    of int8 and int4 by search: auto (default) first runs the model over 1,024 tokens at random, once a checkpoint, to see which
                     inputs count; none lets all count alike
  --reproducible-degree N
                     degrees that divide it give int8 and int4 the same bits: ${REPRODUCIBLE_DEGREES.join(', ')} (default ${DEFAULT_REPRODUCIBLE_DEGREE})
  --activation-bits N
                     what rows are rounded to that meet int8 and int4, 32 values a scale: ${ACTIVATION_BITS.join(', ')} (default: 16 below a billion
                     parameters where our own kernels run, else 8)
  --store DIR        folder the shards are kept in (default .shards)
  --verify           join the written slices again and compare them with the checkpoint
  --plan-only        print the plan and write nothing; needs config.json alone
  --random-weights   noise instead of weights, to measure speed; needs config.json alone
  --seed N           of the noise (default 0)
  --shape NAME       a config.json that comes with this program instead of DIR: ${shapeNames().join(', ')}
  --json             one JSON object a line, for programs
  --request JSON     all of that as one object, for the server (proto/partition.ts); the answer is as with --json
  --help
`;

export interface CommandLine extends PartitionOptions {
  calibrate: boolean;
  verify: boolean;
  planOnly: boolean;
  waits: boolean;
}

/** @throws ServingError CONFIG_INVALID */
export function parseCommandLine(args: string[]): CommandLine {
  const { values, positionals } = parse(args);
  if (values.request !== undefined) return ofRequest(readPartitionRequest(values.request));
  const { 'activation-bits': bits } = values;
  const [folder, ...more] = positionals;
  if (more.length > 0) throw wrong(`one folder is expected, ${positionals.length} are given`);
  if ((folder === undefined) === (values.shape === undefined)) {
    throw wrong('either a model folder or --shape NAME is needed');
  }
  return {
    folder: folder ?? shapeFolder(values.shape ?? ''),
    outStore: values.store,
    tp: wholeNumber('--tp', values.tp, 1),
    dtype: oneOf('--dtype', values.dtype, DTYPES),
    ...layoutAndDevice(values.layout, values.device),
    blockSize: wholeNumber('--block-size', values['block-size'], 1),
    symmetric: values.symmetric ? true : values.asymmetric ? false : undefined,
    scales: oneOf('--scales', values.scales, SCALES),
    eightBit: eightBitGroups(values['eight-bit']),
    reproducibleDegree: oneOf('--reproducible-degree', values['reproducible-degree'], REPRODUCIBLE_DEGREES),
    activationBits: bits === undefined ? undefined : oneOf('--activation-bits', bits, ACTIVATION_BITS),
    randomWeights: values['random-weights'],
    seed: wholeNumber('--seed', values.seed, 0),
    verify: values.verify,
    planOnly: values['plan-only'],
    waits: false,
    calibrate: oneOf('--calibrate', values.calibrate, ['auto', 'none'] as const) === 'auto',
  };
}

function ofRequest({ store, planOnly = false, waits = false, ...given }: PartitionRequest): CommandLine {
  return {
    ...given,
    outStore: store,
    randomWeights: false,
    seed: 0,
    verify: false,
    planOnly,
    waits,
    calibrate: true,
  };
}

/** @throws ServingError CONFIG_INVALID */
function layoutAndDevice(
  layoutText: string,
  deviceText: string,
): Pick<PartitionOptions, 'layout' | 'device'> {
  const layout = oneOf('--layout', layoutText, ['auto', ...LAYOUTS] as const);
  const device = oneOf('--device', deviceText, SHARD_DEVICES);
  if (layout === 'panels' && device !== 'cpu')
    throw wrong(`--layout panels is for the CPU, not for ${device}`);
  return { device, ...(layout === 'auto' ? {} : { layout }) };
}

/** @throws ServingError CONFIG_INVALID */
function eightBitGroups(text: string | undefined): EightBitGroup[] | undefined {
  if (text === undefined) return undefined;
  const groups = text.split(',').filter((group) => group !== '' && group !== 'none');
  return groups.map((group) => oneOf('--eight-bit', group, EIGHT_BIT_GROUPS));
}

function parse(args: string[]) {
  try {
    return parseArgs({
      args,
      allowPositionals: true,
      options: {
        tp: { type: 'string', default: '1' },
        dtype: { type: 'string', default: 'auto' },
        layout: { type: 'string', default: 'auto' },
        device: { type: 'string', default: 'cpu' },
        'block-size': { type: 'string', default: String(DEFAULT_BLOCK_SIZE) },
        asymmetric: { type: 'boolean', default: false },
        symmetric: { type: 'boolean', default: false },
        'eight-bit': { type: 'string' },
        'reproducible-degree': { type: 'string', default: String(DEFAULT_REPRODUCIBLE_DEGREE) },
        'activation-bits': { type: 'string' },
        scales: { type: 'string', default: 'search' },
        calibrate: { type: 'string', default: 'auto' },
        store: { type: 'string', default: '.shards' },
        verify: { type: 'boolean', default: false },
        'plan-only': { type: 'boolean', default: false },
        'random-weights': { type: 'boolean', default: false },
        seed: { type: 'string', default: '0' },
        shape: { type: 'string' },
        json: { type: 'boolean', default: false },
        request: { type: 'string' },
      },
    });
  } catch (cause) {
    throw wrong(cause instanceof Error ? cause.message : String(cause));
  }
}

function oneOf<T extends string | number>(option: string, text: string, known: readonly T[]): T {
  const found = known.find((word) => String(word) === text);
  if (found === undefined) throw wrong(`${option} ${text}: expected one of ${known.join(', ')}`);
  return found;
}

function wholeNumber(option: string, text: string, least: number): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value) || value < least) {
    throw wrong(`${option} ${text}: expected a whole number of at least ${least}`);
  }
  return value;
}

function wrong(what: string): ServingError {
  return new ServingError('CONFIG_INVALID', what);
}
