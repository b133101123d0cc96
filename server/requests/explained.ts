/**
 * What a handler and the server say to each other of explanations: properties of a request, and headers of an answer.
 *
 * A request with `explain: True` is answered with the handler's own explanation, or as always. A handler whose requests have features that
 * can be left out says so, and is asked again and again for some of them.
 */

/** Marks an answer that is an explanation of the handler's own. */
export const EXPLAINED_HEADER = 'x-explained';
/** In an answer: its request has features, in a shape of their own: `8,8`. */
export const FEATURES_HEADER = 'x-explain-features';
/** In a request: a 1 for each of its features that is there, a 0 for each that is left out. */
export const KEPT_HEADER = 'x-explain-kept';
/** In a request: a key that the answer is to have, whatever else it leaves out. */
export const TARGET_HEADER = 'x-explain-target';
