/**
 * Which tokens may come next in a text that must be of a language.
 *
 * In      a constraint; the vocabulary; tokens as they are chosen
 * Out     masks over the ids: bit i of word i >> 5; an end id's is set where the text may end. A mask is never empty for a vocabulary that has
 *         every byte
 * Limits  MAX_MASK_BYTES of masks are remembered a grammar; those of machine.ts
 * Errors  BAD_REQUEST: the constraint is none that is served
 * Cost    a mask is one walk over the tokens that can follow, once for each place in the grammar: the next text that comes there has it ready
 */
import type { AnswerConstraint, ConstraintSpec } from '../../requests/answer-constraint.js';
import { constraintExpression, refusal } from './constraint.js';
import { Machine, type State } from './machine.js';
import type { TokenTrie } from './token-trie.js';

const MAX_MASK_BYTES = 16 * 1024 * 1024;

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
  #masks = new Map<State, Uint32Array>();

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
    const bytes = this.#trie.bytesOf(id);
    if (bytes === null) return null;
    return this.#guarded(() => {
      let at: State | null = state;
      for (let i = 0; i < bytes.length && at !== null; i++) at = this.#machine.step(at, bytes[i]!);
      return at;
    });
  }

  isEnd(state: State, id: number): boolean {
    return state.accepts && this.#endIds.includes(id);
  }

  /** The same array each time. */
  mask(state: State): Uint32Array {
    return this.#guarded(() => {
      const clamped = this.#machine.clamp(state);
      let mask = this.#masks.get(clamped);
      if (mask === undefined) {
        if (this.#masks.size * this.#words * 4 >= MAX_MASK_BYTES) this.#masks = new Map();
        mask = this.#walk(clamped);
        this.#masks.set(clamped, mask);
      }
      return mask;
    });
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
