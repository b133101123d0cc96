/**
 * What form a client wants an answer to have: plain data, checked where the model is known.
 */
export type ConstraintSpec =
  | { kind: 'json-object' }
  | { kind: 'json-schema'; schema: unknown }
  | { kind: 'regex'; pattern: string }
  | { kind: 'choice'; texts: readonly string[] }
  | { kind: 'grammar'; source: string };

export interface AnswerConstraint {
  spec: ConstraintSpec;
  /** The answer begins behind what the model thinks, between these; null: at once. */
  behind: { open: string; close: string; startsInside: boolean } | null;
}
