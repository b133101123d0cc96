/**
 * What a checkpoint's weights are stored as where they are no floats, and what becomes of them; of floats, what int4 leaves at 8 bits.
 *
 * In      config.json or GGUF header, the plan
 * Out     a sentence for the log; null: floats, all of whose linears become what the format's name says
 */
import type { CheckpointConfig } from '../checkpoint/config-file.js';
import { ggmlType } from '../checkpoint/ggml-blocks.js';
import { readQuantisation } from '../checkpoint/quantisation.js';
import { wholeName } from '../importance/importance.js';
import type { Plan } from '../plan/plan.js';

export function describeStored(config: CheckpointConfig, plan: Plan): string | null {
  const stored = storedAs(config);
  if (stored === null) return describeMixed(plan);
  const { dtype } = plan.format;
  if (dtype === 'fp32')
    return `weights are stored as ${stored}, and computed as the float32 numbers that they stand for`;
  const linears = new Map(
    plan.items.flatMap((item) => (item.kind === 'linear' ? [[wholeName(item.name), item] as const] : [])),
  );
  const others = [...linears.values()].filter(({ isCoded }) => !isCoded);
  const own = linears.size - others.length;
  const kept = `${own} of ${linears.size} linears keep their codes`;
  if (own === linears.size) return `weights are stored as ${stored}: ${kept}`;
  const bits = new Set(others.map(({ format }) => (format === null ? dtype : `int${format.bits}`)));
  const anew = `are rounded anew to ${[...bits].join(' and ')}`;
  return `weights are stored as ${stored}: ${own > 0 ? `${kept}, the others` : 'they'} ${anew}`;
}

/** int4 that keeps some linears at 8 bits, and how many bits that makes. */
function describeMixed({ format, items }: Plan): string | null {
  const linears = items.filter((item) => item.kind === 'linear').filter((item) => item.format !== null);
  if (format.dtype !== 'int4' || !linears.some((item) => item.format?.bits === 8)) return null;
  let [bytes, weights] = [0, 0];
  for (const item of linears) {
    bytes += item.weight.bytes + (item.scales?.bytes ?? 0) + (item.zeroPoints?.bytes ?? 0);
    weights += item.outputs * item.inputs;
  }
  const mean = ((8 * bytes) / weights).toFixed(1);
  return `int4 leaves ${format.eightBit.join(', ')} at 8 bits: ${mean} bits a weight, scales included`;
}

function storedAs(config: CheckpointConfig): string | null {
  if (config.gguf === null) {
    const quantisation = readQuantisation(config);
    return quantisation === null ? null : quantisation.method.toUpperCase();
  }
  const counts = new Map<string, number>();
  for (const { shape, type } of config.gguf.whole.tensors.values()) {
    const name = ggmlType(type)?.name ?? String(type);
    if (shape.length > 1) counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  const types = [...counts].sort(([, a], [, b]) => b - a).map(([name, count]) => `${name} (${count})`);
  return `GGUF, ${types.join(', ')}`;
}
