/** What a group needs, what was promised, and the words of a refusal. */
import { describe, expect, it } from 'vitest';
import type { PartitionPlan } from '../../../../proto/partition.js';
import { withKvType } from '../../../../server/engines/llm/kv-type.js';
import { memoryNeed, sizesOfPlan } from '../../../../server/engines/llm/model-sizes.js';
import { MemoryLedger } from '../../../../server/machine/memory-ledger.js';
import { checkMemory, MIB } from '../../../../server/machine/memory-need.js';

const PLAN: PartitionPlan = {
  architecture: 'LlamaForCausalLM',
  isEven: true,
  policy: { kind: 'family', summary: '', assumed: [] },
  worldSize: 2,
  bytesPerRank: 100 * MIB,
  sharedBytes: 50 * MIB,
  kvBytesPerTokenPerRank: 1024,
  contextLength: 512,
  textTokens: null,
  hasLabels: false,
  isNormalised: false,
  activationColumns: 768,
};

describe('the memory that a group needs', () => {
  const sizes = sizesOfPlan(PLAN);
  const need = memoryNeed(sizes, { kvTokens: 64 * 1024, maxStepTokens: 1024 }, 0);

  it('is weights of all ranks, the shared file once, the KV cache of all ranks, and workspace of each', () => {
    expect(need.weightBytes).toBe(250 * MIB);
    expect(need.kvBytes).toBe(128 * MIB);
    expect(need.workspaceBytes).toBe(2 * (128 * MIB + 1024 * 768 * 4));
    expect(need.totalBytes).toBe(need.weightBytes + need.kvBytes + need.workspaceBytes);
  });

  it('has half the KV cache where keys and values are halves', () => {
    const halves = memoryNeed(withKvType(sizes, 'fp16'), { kvTokens: 64 * 1024, maxStepTokens: 1024 }, 0);
    expect(halves.kvBytes).toBe(64 * MIB);
    expect(need.totalBytes - halves.totalBytes).toBe(64 * MIB);
  });

  it('is what the operator says where he says it', () => {
    expect(memoryNeed(sizes, { kvTokens: 64, maxStepTokens: 64 }, 77).totalBytes).toBe(77 * MIB);
  });

  const config = { requiredMemoryMb: 0, reservedMemoryMb: 100 };

  it('fits when it leaves what is reserved, to the byte', () => {
    const free = need.totalBytes + 100 * MIB;
    expect(() => checkMemory('toy', need, free, config)).not.toThrow();
    expect(() => checkMemory('toy', need, free - 1, config)).toThrow();
  });

  it.each([
    [
      640,
      config,
      /needs 640 MiB \(weights 250, KV cache 128, workspace 262\), but 640 MiB are free, of which reserved_memory_mb=100 must stay so: lower option.kv_cache_memory_mb/,
    ],
    [500, config, /: take a smaller option.dtype/],
    [-5, config, /but 0 MiB are free/],
    [
      640,
      { requiredMemoryMb: 640, reservedMemoryMb: 1 },
      /required_memory_mb says so.*: lower required_memory_mb/,
    ],
  ])('of %i MiB free: a refusal with need, have and the key to change', (freeMb, limits, message) => {
    const asked = limits.requiredMemoryMb > 0 ? { ...need, totalBytes: limits.requiredMemoryMb * MIB } : need;
    const check = () => checkMemory('toy', asked, freeMb * MIB, limits);
    expect(check).toThrow(message);
    expect(check).toThrow(expect.objectContaining({ code: 'OUT_OF_MEMORY' }));
    expect(check).toThrow(/^No enough memory to load the model\./);
  });
});

describe('the ledger', () => {
  it('takes off what was promised and is not used yet, and gives it back', () => {
    const used = new Map([
      [1, 30],
      [2, 10],
      [3, 500],
    ]);
    const ledger = new MemoryLedger(
      () => 1000,
      (pid) => used.get(pid) ?? 0,
    );
    expect(ledger.freeBytes()).toBe(1000);
    let pids: (number | undefined)[] = [];
    const giveBack = ledger.reserve(200, () => pids);
    expect(ledger.freeBytes()).toBe(800);
    pids = [1, 2, undefined];
    expect(ledger.freeBytes()).toBe(840);
    // A group that uses more than was promised takes it from the machine, not from the others' promises.
    const other = ledger.reserve(100, () => [3]);
    expect(ledger.freeBytes()).toBe(840);
    giveBack();
    other();
    expect(ledger.freeBytes()).toBe(1000);
  });
});
