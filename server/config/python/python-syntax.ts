/**
 * Python's source as statements and expressions: as much of it as a model.py of DJLServing is written in. Nothing of it is run.
 *
 * In      the text of a module
 * Out     statements with their lines; what is not known here is kept as `other`, an error only for whoever needs it
 * Limits  MAX_DEPTH expressions inside each other
 * Errors  PythonProblem: a text that is no Python
 * Source  the Python language reference; @lezer/python reads it (typed, kept up, no native code)
 */
import { createRequire } from 'node:module';
import type { SyntaxNode } from '@lezer/common';

const MAX_DEPTH = 64;

/** A line that is not served, and why. */
export class PythonProblem extends Error {
  readonly line: number;

  constructor(line: number, sentence: string) {
    super(sentence);
    this.line = line;
  }
}

export type Constant = string | number | boolean | null;

export type Expression = { line: number } & (
  | { kind: 'constant'; value: Constant }
  | { kind: 'name'; name: string }
  | { kind: 'member'; of: Expression; name: string }
  | { kind: 'item'; of: Expression; key: Expression }
  | {
      kind: 'call';
      of: Expression;
      args: Expression[];
      named: [name: string, value: Expression][];
      /** `**` of a mapping. */
      spread: Expression[];
    }
  | { kind: 'list'; items: Expression[] }
  | { kind: 'mapping'; entries: [key: Expression, value: Expression][] }
  | { kind: 'not'; of: Expression }
  | { kind: 'is'; left: Expression; right: Expression; negated: boolean }
  | { kind: 'other'; text: string }
);

export type Statement = { line: number } & (
  | { kind: 'import'; names: [bound: string, path: string][] }
  | { kind: 'assign'; target: string; value: Expression }
  | { kind: 'function'; name: string; parameters: string[]; body: Statement[] }
  | { kind: 'if'; condition: Expression; body: Statement[]; otherwise: Statement[] }
  | { kind: 'return'; value: Expression | null }
  | { kind: 'expression'; value: Expression }
  | { kind: 'nothing' }
  | { kind: 'other'; text: string }
);

/** @throws PythonProblem */
export function pythonStatements(source: string): Statement[] {
  return new Reader(source).module();
}

const childrenOf = (node: SyntaxNode): SyntaxNode[] => {
  const children: SyntaxNode[] = [];
  for (let child = node.firstChild; child !== null; child = child.nextSibling)
    if (child.name !== 'Comment') children.push(child);
  return children;
};

class Reader {
  readonly #source: string;

  constructor(source: string) {
    this.#source = source;
  }

  module(): Statement[] {
    // Few servers meet a module of Python's, and the package costs megabytes.
    const { parser } = createRequire(import.meta.url)('@lezer/python') as typeof import('@lezer/python');
    const tree = parser.parse(this.#source);
    tree.iterate({
      enter: (node) => {
        if (node.type.isError) throw new PythonProblem(this.#lineAt(node.from), 'this is no Python');
      },
    });
    return this.#statements(childrenOf(tree.topNode));
  }

  #statements(nodes: readonly SyntaxNode[]): Statement[] {
    return nodes.flatMap((node) =>
      node.name === 'StatementGroup' ? this.#statements(childrenOf(node)) : this.#statement(node),
    );
  }

  #body(node: SyntaxNode | undefined): Statement[] {
    return node === undefined ? [] : this.#statements(childrenOf(node).filter(({ name }) => name !== ':'));
  }

  #statement(node: SyntaxNode): Statement[] {
    const line = this.#lineAt(node.from);
    const children = childrenOf(node);
    const other: Statement = { line, kind: 'other', text: this.#text(node) };
    switch (node.name) {
      case ';':
        return [];
      case 'PassStatement':
      case 'ScopeStatement':
        return [{ line, kind: 'nothing' }];
      case 'ImportStatement':
        return [{ line, kind: 'import', names: importedNames(this.#text(node)) }];
      case 'ExpressionStatement':
        return [{ line, kind: 'expression', value: this.#expression(children[0]!, 0) }];
      case 'ReturnStatement': {
        const value = children.find(({ name }) => name !== 'return');
        return [{ line, kind: 'return', value: value ? this.#expression(value, 0) : null }];
      }
      case 'AssignStatement': {
        const [target] = children;
        const at = children.findIndex(({ name }) => name === 'AssignOp');
        const value = children[at + 1];
        const isPlain = at >= 1 && children.slice(1, at).every(({ name }) => name === 'TypeDef');
        if (target?.name !== 'VariableName' || !isPlain || value === undefined) return [other];
        if (children.length > at + 2) return [other];
        return [{ line, kind: 'assign', target: this.#text(target), value: this.#expression(value, 0) }];
      }
      case 'FunctionDefinition': {
        const find = (wanted: string) => children.find(({ name }) => name === wanted);
        if (find('async') !== undefined) return [other];
        const parameters = find('ParamList');
        return [
          {
            ...{ line, kind: 'function', name: this.#text(find('VariableName') ?? node) },
            parameters: parameters === undefined ? [] : this.#parameters(parameters),
            body: this.#body(find('Body')),
          },
        ];
      }
      case 'IfStatement':
        return [this.#branches(children, line)];
      default:
        return [other];
    }
  }

  /** `if`, `elif` and `else` as `if` in `else`. */
  #branches(children: readonly SyntaxNode[], line: number): Statement {
    const [, condition, body, word, ...rest] = children;
    const otherwise =
      word === undefined
        ? []
        : word.name === 'else'
          ? this.#body(rest[0])
          : [this.#branches([word, ...rest], this.#lineAt(word.from))];
    return {
      ...{ line, kind: 'if', condition: this.#expression(condition!, 0) },
      ...{ body: this.#body(body), otherwise },
    };
  }

  #parameters(list: SyntaxNode): string[] {
    const names: string[] = [];
    let takes = true;
    for (const child of childrenOf(list)) {
      if (child.name === ',') takes = true;
      else if (takes && child.name === 'VariableName') {
        names.push(this.#text(child));
        takes = false;
      }
    }
    return names;
  }

  #expression(node: SyntaxNode, depth: number): Expression {
    const line = this.#lineAt(node.from);
    const children = childrenOf(node);
    const text = this.#text(node);
    const other: Expression = { line, kind: 'other', text };
    if (depth > MAX_DEPTH) throw new PythonProblem(line, `expressions lie deeper than ${MAX_DEPTH}`);
    const inner = (child: SyntaxNode): Expression => this.#expression(child, depth + 1);
    switch (node.name) {
      case 'VariableName':
        return { line, kind: 'name', name: text };
      case 'None':
        return { line, kind: 'constant', value: null };
      case 'Boolean':
        return { line, kind: 'constant', value: text === 'True' };
      case 'Number': {
        const value = Number(text.replaceAll('_', ''));
        return Number.isFinite(value) ? { line, kind: 'constant', value } : other;
      }
      case 'String': {
        const value = plainText(text);
        return value === null ? other : { line, kind: 'constant', value };
      }
      case 'ContinuedString': {
        const parts = children.map((child) => plainText(this.#text(child)));
        return parts.includes(null) ? other : { line, kind: 'constant', value: parts.join('') };
      }
      case 'ParenthesizedExpression':
        return children.length === 3 ? inner(children[1]!) : other;
      case 'ArrayExpression':
      case 'TupleExpression':
        return { line, kind: 'list', items: children.filter(isElement).map(inner) };
      case 'DictionaryExpression': {
        const elements = children.filter(({ name }) => !['{', '}', ',', ':'].includes(name));
        if (elements.length % 2 === 1 || children.some(({ name }) => name.includes('*'))) return other;
        return {
          ...{ line, kind: 'mapping' },
          entries: elements.flatMap((key, at): [Expression, Expression][] =>
            at % 2 === 0 ? [[inner(key), inner(elements[at + 1]!)]] : [],
          ),
        };
      }
      case 'MemberExpression': {
        const [of, mark, key] = children;
        if (of === undefined || key === undefined) return other;
        return mark?.name === '['
          ? { line, kind: 'item', of: inner(of), key: inner(key) }
          : { line, kind: 'member', of: inner(of), name: this.#text(key) };
      }
      case 'CallExpression':
        return this.#call(children, line, inner) ?? other;
      case 'UnaryExpression': {
        const [sign, of] = children;
        if (sign === undefined || of === undefined) return other;
        if (sign.name === 'not') return { line, kind: 'not', of: inner(of) };
        const value = inner(of);
        return this.#text(sign) === '-' && value.kind === 'constant' && typeof value.value === 'number'
          ? { line, kind: 'constant', value: -value.value }
          : other;
      }
      case 'BinaryExpression': {
        const [left, ...rest] = children;
        const right = rest.at(-1);
        const sign = rest
          .slice(0, -1)
          .map((one) => this.#text(one))
          .join(' ');
        const negated = sign === 'is not' || sign === '!=';
        if (left === undefined || right === undefined || !['is', 'is not', '==', '!='].includes(sign))
          return other;
        return { line, kind: 'is', left: inner(left), right: inner(right), negated };
      }
      default:
        return other;
    }
  }

  #call(
    [of, list]: readonly SyntaxNode[],
    line: number,
    inner: (node: SyntaxNode) => Expression,
  ): Expression | null {
    if (of === undefined || list?.name !== 'ArgList') return null;
    const args: Expression[] = [];
    const named: [string, Expression][] = [];
    const spread: Expression[] = [];
    const tokens = childrenOf(list).filter(({ name }) => name !== '(' && name !== ')');
    for (let at = 0; at < tokens.length; at++) {
      const token = tokens[at]!;
      if (token.name === ',') continue;
      if (this.#text(token) === '**' && tokens[at + 1]) spread.push(inner(tokens[++at]!));
      else if (token.name === '*' || token.name === 'for') return null;
      else if (tokens[at + 1]?.name === 'AssignOp' && tokens[at + 2]) {
        named.push([this.#text(token), inner(tokens[at + 2]!)]);
        at += 2;
      } else args.push(inner(token));
    }
    return { line, kind: 'call', of: inner(of), args, named, spread };
  }

  #text({ from, to }: { from: number; to: number }): string {
    return this.#source.slice(from, to);
  }

  #lineAt(offset: number): number {
    let line = 1;
    for (let at = this.#source.indexOf('\n'); at >= 0 && at < offset; at = this.#source.indexOf('\n', at + 1))
      line += 1;
    return line;
  }
}

const isElement = ({ name }: SyntaxNode): boolean => !['[', ']', '(', ')', ','].includes(name);

/** `import a.b as c`, `from a import b as c, d`: the name that is bound, and what it stands for. */
function importedNames(text: string): [string, string][] {
  const flat = text.replace(/#[^\n]*/g, '').replace(/[()\\\n]/g, ' ');
  const from = /^from\s+([\w.]+)\s+import\s+(.*)$/.exec(flat.trim());
  const list = from?.[2] ?? flat.trim().replace(/^import\s+/, '');
  return list.split(',').flatMap((one): [string, string][] => {
    const [, name, bound] = /^\s*([\w.*]+)(?:\s+as\s+(\w+))?\s*$/.exec(one) ?? [];
    if (name === undefined) return [];
    if (from !== null) return [[bound ?? name, `${from[1]}.${name}`]];
    // `import a.b` binds a.
    return [bound === undefined ? [name.split('.')[0]!, name.split('.')[0]!] : [bound, name]];
  });
}

const ESCAPES: Readonly<Record<string, string>> = {
  n: '\n',
  t: '\t',
  r: '\r',
  '\\': '\\',
  "'": "'",
  '"': '"',
};

/** null: one with a prefix that means more, or an escape that is not known here. */
function plainText(text: string): string | null {
  const match = /^(r|u)?('''|"""|'|")([\s\S]*)\2$/i.exec(text);
  if (match === null) return null;
  const [, prefix = '', , body = ''] = match;
  if (prefix.toLowerCase() === 'r') return body;
  let isKnown = true;
  const value = body.replace(/\\([\s\S])/g, (_, letter: string) => {
    if (letter === '\n') return '';
    if (ESCAPES[letter] === undefined) isKnown = false;
    return ESCAPES[letter] ?? '';
  });
  return isKnown ? value : null;
}
