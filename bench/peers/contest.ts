/**
 * One kind of work for both sides, and how it is measured: in pairs, one side after the other while the other sleeps.
 *
 * In      a running group, a running peer
 * Out     pairs of milliseconds
 * Limits  what a pair may have beside it: NOISE_LIMIT of the machine used by others, IDLE_LIMIT of a core by the side that
 *         waits. A pair over a limit is kept and marked
 */
import type { SequenceOpen } from '../../proto/control.js';
import { NOISE_LIMIT, watchCpu } from '../../tuner/target/cpu-use.js';
import type { GroupUnderTest } from '../group-under-test.js';
import type { Peer } from './peer.js';

/** A share of one core. A side that spun would use 1. */
const IDLE_LIMIT = 0.05;
/** Measurements of each of a peer's ways before one is chosen. */
const TRIALS = 3;
/** So that what the other side still does after its answer is not counted. */
const PAUSE_MS = 20;

export interface Work {
  name: string;
  kind: 'decode' | 'prefill';
  sequences: number;
  /** Tokens of prompt before a decode; of the prompt that is measured. */
  tokens: number;
  /** Decode steps a measurement. Sequences go on from one to the next, on both sides alike. */
  steps: number;
  /** Pairs a repetition: more of what is short. */
  pairs: number;
  /** Every round begins after the prompt again: where a prompt is cheap. */
  isRewound: boolean;
}

export const WORKS: readonly Work[] = [
  { name: 'decode', kind: 'decode', sequences: 1, tokens: 64, steps: 16, pairs: 4, isRewound: true },
  { name: 'decode1024', kind: 'decode', sequences: 1, tokens: 1024, steps: 12, pairs: 3, isRewound: false },
  { name: 'batch8', kind: 'decode', sequences: 8, tokens: 64, steps: 10, pairs: 2, isRewound: false },
  { name: 'batch32', kind: 'decode', sequences: 32, tokens: 64, steps: 6, pairs: 1, isRewound: false },
  { name: 'prefill', kind: 'prefill', sequences: 1, tokens: 512, steps: 1, pairs: 1, isRewound: false },
];

/** At most so many in a sequence: warm-up, choosing of a way, and twice the repetitions. */
export const positionsOf = ({ kind, pairs, steps, tokens }: Work, repeat: number): number =>
  tokens + 8 + (kind === 'decode' ? steps * (2 * repeat * pairs + TRIALS) : 0);

export interface Pair {
  oursMs: number;
  theirsMs: number;
  /** Share of the machine. */
  others: number;
  /** Share of a core. */
  idleSide: number;
  isClean: boolean;
}

/** A work, opened on both sides. */
export class Contest {
  readonly work: Work;
  readonly pairs: Pair[] = [];
  /** The way of the peer that is faster for it. */
  variant = '';
  readonly peer: Peer;
  readonly #ours: GroupUnderTest;
  readonly #firstSlot: number;
  #opens: SequenceOpen[] = [];
  #capacity = 0;

  /** @param firstSlot of ours, from which `work.sequences` are this contest's */
  constructor(work: Work, ours: GroupUnderTest, peer: Peer, firstSlot: number) {
    this.work = work;
    this.#ours = ours;
    this.peer = peer;
    this.#firstSlot = firstSlot;
  }

  /** Prompts on both sides, one measurement of each that doesn't count, and the peer with what is faster for it. */
  async open(repeat: number): Promise<void> {
    const { kind, name, sequences, tokens } = this.work;
    const capacity = positionsOf(this.work, repeat);
    this.#capacity = capacity;
    if (kind === 'decode') {
      this.#opens = await this.#ours.openDecodes(this.#firstSlot, sequences, tokens, capacity - tokens);
    }
    await this.#oursMs();
    const { variants } = this.peer;
    const context = kind === 'decode' ? tokens : 0;
    for (const variant of variants)
      await this.peer.open({ name: nameOf(name, variant), sequences, context, capacity, variant });
    const best = new Map(variants.map((variant) => [variant, Number.POSITIVE_INFINITY]));
    for (let trial = 0; trial < TRIALS; trial++) {
      for (const variant of variants) {
        const ms = await this.#theirsMs(variant);
        // The first has the cost of first use.
        if (trial > 0) best.set(variant, Math.min(best.get(variant)!, ms));
      }
    }
    const [fastest = '', ...slower] = [...variants].sort((a, b) => best.get(a)! - best.get(b)!);
    this.variant = fastest;
    for (const variant of slower) await this.peer.close(nameOf(name, variant));
  }

  /** To be called before the pairs of a round. */
  async rewind(): Promise<void> {
    const { isRewound, name, sequences, tokens } = this.work;
    if (!isRewound) return;
    await this.#ours.closeDecodes(this.#opens);
    const capacity = this.#capacity - tokens;
    this.#opens = await this.#ours.openDecodes(this.#firstSlot, sequences, tokens, capacity);
    await this.peer.rewind(nameOf(name, this.variant));
  }

  /** @param oursFirst the sides take turns in going first */
  async measure(oursFirst: boolean): Promise<void> {
    const ours = () => this.#watched(() => this.#oursMs(), [this.peer.pid]);
    const theirs = () => this.#watched(() => this.#theirsMs(this.variant), this.#ours.pids);
    const order = oursFirst ? [ours, theirs] : [theirs, ours];
    const done = watchCpu([...this.#ours.pids, this.peer.pid]);
    const first = await order[0]!();
    const second = await order[1]!();
    const { others } = done();
    const idleSide = Math.max(first.idle, second.idle);
    this.pairs.push({
      oursMs: (oursFirst ? first : second).ms,
      theirsMs: (oursFirst ? second : first).ms,
      others,
      idleSide,
      isClean: others <= NOISE_LIMIT && idleSide <= IDLE_LIMIT,
    });
  }

  async #watched(run: () => Promise<number>, idlePids: readonly (number | undefined)[]) {
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    const done = watchCpu(idlePids);
    const ms = await run();
    return { ms, idle: Math.max(...done().own) };
  }

  async #oursMs(): Promise<number> {
    const { kind, steps, tokens } = this.work;
    if (kind === 'prefill') return this.#ours.prefillMs(tokens, this.#firstSlot);
    return (await this.#ours.runDecodes(this.#opens, steps)).ms;
  }

  #theirsMs(variant: string): Promise<number> {
    const { kind, name, steps, tokens } = this.work;
    if (kind === 'prefill') return this.peer.prefillMs(nameOf(name, variant), tokens);
    return this.peer.decodeMs(nameOf(name, variant), steps);
  }
}

const nameOf = (work: string, variant: string): string => `${work} ${variant}`;
