/**
 * An expression that was checked as a whole: every rule has a text, and no rule begins with itself.
 *
 * In      Expression
 * Out     the same without parts that no text has, in place
 * Limits  MAX_PARTS
 * Errors  ConstraintLimit; GrammarFault naming the rule
 */
import { type Expression, isNever, NEVER, type Rule } from './expression.js';
import { ConstraintLimit, partsOf } from './machine.js';

const MAX_PARTS = 200_000;

/** The grammar is none that can be followed. */
export class GrammarFault extends Error {}

/** @returns null: there is no text at all */
export function checkedGrammar(root: Expression): Expression | null {
  const parts = partsOf(root);
  if (parts.size > MAX_PARTS) {
    throw new ConstraintLimit(`it has ${parts.size} parts, the limit is ${MAX_PARTS}`);
  }
  const productive = fixpoint(parts, isProductive);
  if (!productive.has(root)) return null;
  for (const part of parts) {
    if (part.kind === 'choice') part.items = part.items.filter((item) => productive.has(item));
    else if (part.kind === 'repeat' && !productive.has(part.item)) part.most = 0;
    else if (part.kind === 'rule' && !productive.has(part)) part.body = NEVER;
  }
  const nullable = fixpoint(parts, isNullable);
  for (const part of parts) {
    if (part.kind === 'rule' && part.body !== null && beginsWithItself(part, nullable)) {
      throw new GrammarFault(`rule ${part.name} begins with itself: write it as a repetition`);
    }
  }
  return root;
}

type Test = (part: Expression, known: ReadonlySet<Expression>) => boolean;

/** All parts of which the test holds, given those of which it holds. */
function fixpoint(parts: ReadonlySet<Expression>, test: Test): Set<Expression> {
  const known = new Set<Expression>();
  const ordered = [...parts].reverse();
  for (let before = -1; before !== known.size; ) {
    before = known.size;
    for (const part of ordered) if (!known.has(part) && test(part, known)) known.add(part);
  }
  return known;
}

/** What is made of parts goes by theirs; a leaf as the leaf says. */
const byParts =
  (ofLeaf: (leaf: Expression) => boolean): Test =>
  (part, known) => {
    switch (part.kind) {
      case 'sequence':
        return part.items.every((item) => known.has(item));
      case 'choice':
        return part.items.some((item) => known.has(item));
      case 'repeat':
        return part.least === 0 || known.has(part.item);
      case 'rule':
        return part.body !== null && known.has(part.body);
      default:
        return ofLeaf(part);
    }
  };

const isProductive = byParts((leaf) => leaf.kind !== 'bytes' || leaf.set.some((word) => word !== 0));
const isNullable = byParts((leaf) => leaf.kind === 'automaton' && leaf.automaton.accepts[0] === 1);

function beginsWithItself(rule: Rule, nullable: ReadonlySet<Expression>): boolean {
  const open: Expression[] = [rule.body!];
  const seen = new Set<Expression>();
  for (let part = open.pop(); part !== undefined; part = open.pop()) {
    if (part === rule) return true;
    if (seen.has(part) || isNever(part)) continue;
    seen.add(part);
    if (part.kind === 'choice') open.push(...part.items);
    else if (part.kind === 'repeat') open.push(part.item);
    else if (part.kind === 'rule' && part.body !== null) open.push(part.body);
    else if (part.kind === 'sequence') {
      for (const item of part.items) {
        open.push(item);
        if (!nullable.has(item)) break;
      }
    }
  }
  return false;
}
