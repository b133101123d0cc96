/**
 * Tokens that are guessed ahead: what a group does with them, and the guess that asks no model.
 *
 * In      the ids of a sequence so far, prompt and new tokens
 * Out     the ids that may follow: those that followed where its last ones stood before
 * Cost    a look over the ids, once a step
 * Pure
 * Source  prompt lookup, as vLLM's speculative method "ngram"; here the longest run of equal ids wins, of equals the latest
 *
 * Guesses cost a step some rows and change no text: the workers keep of them what they choose anyway (proto/control.proto, Row.draft_ids).
 */

export type Guess = (ids: readonly number[], most: number) => number[];

export interface DraftOptions {
  /** Behind one sequence in a step; 0: nothing is guessed, but what is known (a prompt whose log-probabilities are asked for) runs together. */
  perSequence: number;
  /** All sequences of a step together: the ranks have memory for so many rows more. */
  perStep: number;
  guess: Guess;
}

/** @param shortest ids that must be equal @param longest that count */
export function promptLookup(shortest: number, longest: number): Guess {
  return (ids, most) => {
    const end = ids.length;
    let best = 0;
    let from = 0;
    // `at` is where the guess would begin.
    for (let at = end - 1; at >= shortest && best < longest; at--) {
      let equal = 0;
      while (equal < longest && equal < at && ids[at - 1 - equal] === ids[end - 1 - equal]) equal++;
      if (equal < shortest || equal <= best) continue;
      best = equal;
      from = at;
    }
    // Past the last id it goes on as it would if the guess were right.
    return best === 0 ? [] : Array.from({ length: most }, (_, index) => ids[from + (index % (end - from))]!);
  };
}
