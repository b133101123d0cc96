/**
 * Which tokens may come next in a text that must be of a language.
 *
 * In      a constraint; the vocabulary; tokens as they are chosen
 * Out     masks over the ids: bit i of word i >> 5; an end id's is set where the text may end. A mask is never empty for a vocabulary that has
 *         every byte. States that are near, for who follows texts without the grammar (engines/llm/known-grammar.ts)
 * Limits  MAX_MASK_BYTES of masks are remembered a grammar; those of machine.ts; NEAR_STATES and NEAR_MS a look around
 * Errors  BAD_REQUEST: the constraint is none that is served
 * Cost    a mask is one walk over the tokens that can follow, once for each place in the grammar: the next text that comes there has it ready
 */
import type { AnswerConstraint, ConstraintSpec } from '../../requests/answer-constraint.js';
import { constraintExpression, refusal } from './constraint.js';
import { ConstraintLimit, Machine, type State } from './machine.js';
import type { TokenTrie } from './token-trie.js';

const MAX_MASK_BYTES = 16 * 1024 * 1024;
const NEAR_STATES = 512;
/** A look around saves later time, and must not cost the text that is written now any. */
const NEAR_MS = 1;

/** Its number is its own for the life of the grammar. */
export interface NumberedMask {
  readonly number: number;
  readonly words: Uint32Array;
}

/** A grammar, made ready for a vocabulary; any number of texts use it. */
export class TokenGrammar {
  readonly #spec: ConstraintSpec;
  readonly #trie: TokenTrie;
  readonly #machine: Machine;
  readonly #words: number;
  readonly #endIds: readonly number[];
  /** Class of each node's byte. */
  readonly #classes: Uint8Array;
  /** By clamped state. */
  #masks = new Map<State, NumberedMask>();
  #made = 0;

  /** @param vocabSize ids that a mask has bits for @throws ServingError BAD_REQUEST */
  constructor(constraint: AnswerConstraint, trie: TokenTrie, vocabSize: number, endIds: readonly number[]) {
    this.#spec = constraint.spec;
    this.#trie = trie;
    this.#words = Math.ceil(vocabSize / 32);
    this.#endIds = endIds.filter((id) => id < vocabSize);
    const expression = constraintExpression(constraint);
    this.#machine = this.#guarded(() => new Machine(expression, trie.longest));
    this.#classes = trie.byte.map((byte) => this.#machine.classOf[byte]!);
  }

  get start(): State {
    return this.#machine.start;
  }

  /** Where the text is after the token; null: it does not follow. */
  after(state: State, id: number): State | null {
    return this.path(state, id)?.at(-1) ?? null;
  }

  /** Where it is now, and after each byte of the token; null: it does not follow. */
  path(state: State, id: number): State[] | null {
    const bytes = this.#trie.bytesOf(id);
    if (bytes === null) return null;
    return this.#guarded(() => {
      const path = [state];
      for (let i = 0; i < bytes.length; i++) {
        const next = this.#machine.step(path[i]!, bytes[i]!);
        if (next === null) return null;
        path.push(next);
      }
      return path;
    });
  }

  isEnd(state: State, id: number): boolean {
    return state.accepts && this.#endIds.includes(id);
  }

  /** The state itself, or one from which as much follows for a while (machine.ts). */
  far(state: State): State {
    return this.#guarded(() => this.#machine.far(state));
  }

  /** Class of each byte, by which states lead on. */
  get classOf(): Uint8Array {
    return this.#machine.classOf;
  }

  get classCount(): number {
    return this.#machine.classes;
  }

  /** The same array each time. */
  mask(state: State): Uint32Array {
    return this.numberedMask(state).words;
  }

  numberedMask(state: State): NumberedMask {
    return this.#guarded(() => {
      const clamped = this.#machine.clamp(state);
      let mask = this.#masks.get(clamped);
      if (mask === undefined) {
        if (this.#masks.size * this.#words * 4 >= MAX_MASK_BYTES) this.#masks = new Map();
        mask = { number: ++this.#made, words: this.#walk(clamped) };
        this.#masks.set(clamped, mask);
      }
      return mask;
    });
  }

  /** null: it was not made yet. */
  knownMask(state: State): NumberedMask | null {
    return this.#masks.get(this.#machine.clamp(state)) ?? null;
  }

  /** States that the bytes of a token lead through, the nearest first, this one among them; not all (`isWhole`) where time was up. */
  near(state: State): { states: Iterable<State>; isWhole: boolean } {
    const machine = this.#machine;
    const { classes } = machine;
    const untilMs = performance.now() + NEAR_MS;
    const reached = new Set<State>([state]);
    let left = this.#trie.longest;
    for (let from: State[] = [state]; from.length > 0 && left > 0; left--) {
      const next: State[] = [];
      for (const one of from) {
        if (reached.size >= NEAR_STATES) return { states: reached, isWhole: true };
        if (performance.now() > untilMs) return { states: reached, isWhole: false };
        for (let byteClass = 0; byteClass < classes; byteClass++) {
          const to = stepOrNull(machine, one, byteClass);
          if (to === null || reached.has(to)) continue;
          reached.add(to);
          next.push(to);
        }
      }
      from = next;
    }
    return { states: reached, isWhole: true };
  }

  #walk(start: State): Uint32Array {
    const { behind, depth, id, nodes, twin } = this.#trie;
    const machine = this.#machine;
    const classes = this.#classes;
    const mask = new Uint32Array(this.#words);
    const states: State[] = [start];
    const set = (one: number): void => {
      if (one >> 5 < mask.length) mask[one >> 5]! |= 1 << (one & 31);
    };
    for (let node = 0; node < nodes; ) {
      const at = depth[node]!;
      const from = states[at - 1]!;
      const byteClass = classes[node]!;
      const known = from.next[byteClass];
      const next = known === undefined ? machine.stepClass(from, byteClass) : known;
      if (next === null) {
        node = behind[node]!;
        continue;
      }
      states[at] = next;
      for (let one = id[node]!; one >= 0; one = twin[one]!) set(one);
      node++;
    }
    if (start.accepts) for (const one of this.#endIds) set(one);
    return mask;
  }

  #guarded<T>(act: () => T): T {
    try {
      return act();
    } catch (error) {
      throw refusal(this.#spec, error);
    }
  }
}

/** What is too much for the machine is left for a text that comes there. */
function stepOrNull(machine: Machine, state: State, byteClass: number): State | null {
  try {
    return machine.stepClass(state, byteClass);
  } catch (error) {
    if (error instanceof ConstraintLimit || error instanceof RangeError) return null;
    throw error;
  }
}
