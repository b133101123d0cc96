/**
 * A grammar as vLLM's and llama.cpp's clients write it: root ::= "yes" | "no" item*
 *
 * In      rules `name ::= …` of "texts", 'texts', [classes], (groups), names, | * + ? {n} {n,m}; # begins a comment; a rule goes on over lines
 *         until the next one begins
 * Out     Expression of the rule `root`
 * Limits  MAX_SOURCE characters, MAX_RULES rules, groups MAX_DEPTH deep
 * Errors  GrammarFault naming line or rule
 * Source  llama.cpp's GBNF; the part of W3C's EBNF that xgrammar reads
 */
import { choice, type Expression, literal, type Rule, repeat, rule, sequence } from './expression.js';
import { GrammarFault } from './grammar.js';
import { RegexFault, regexExpression } from './regex.js';

const MAX_SOURCE = 262_144;
const MAX_RULES = 4096;
const MAX_DEPTH = 64;
const MAX_COUNT = 100_000;

/** @throws GrammarFault */
export function ebnfExpression(source: string, root = 'root'): Expression {
  if (source.length > MAX_SOURCE) {
    throw new GrammarFault(`a grammar of ${source.length} characters, the limit is ${MAX_SOURCE}`);
  }
  return new Parser(tokensOf(source)).rules(root);
}

interface Token {
  kind: 'name' | 'text' | 'class' | 'count' | 'sign' | 'end';
  text: string;
  line: number;
  /** The first of a rule: a name that ::= follows. */
  isHead: boolean;
}

const TOKEN =
  /(?<space>\s+|#[^\n]*)|(?<name>[A-Za-z_][\w-]*)|(?<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|(?<class>\[(?:[^\]\\]|\\.)*\])|(?<count>\{\s*\d+\s*(?:,\s*\d*\s*)?\})|(?<sign>::=|[|()*+?.])/suy;

function tokensOf(source: string): Token[] {
  const tokens: Token[] = [];
  let line = 1;
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < source.length) {
    const at = TOKEN.lastIndex;
    const groups = TOKEN.exec(source)?.groups;
    if (groups === undefined) {
      throw new GrammarFault(`line ${line}: ${JSON.stringify(source.slice(at, at + 20))} is not expected`);
    }
    for (const kind of ['name', 'text', 'class', 'count', 'sign'] as const) {
      const text = groups[kind];
      if (text === undefined) continue;
      if (text === '::=' && tokens.at(-1)?.kind === 'name') tokens.at(-1)!.isHead = true;
      tokens.push({ kind, text, line, isHead: false });
    }
    line += source.slice(at, TOKEN.lastIndex).split('\n').length - 1;
  }
  tokens.push({ kind: 'end', text: 'the end', line, isHead: true });
  return tokens;
}

class Parser {
  readonly #tokens: readonly Token[];
  readonly #rules = new Map<string, Rule>();
  #at = 0;
  #depth = 0;

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens;
  }

  rules(root: string): Expression {
    while (this.#now.kind !== 'end') {
      const { isHead, kind, text } = this.#now;
      if (kind !== 'name' || !isHead) throw this.#fault('a rule begins with "name ::="');
      this.#at += 2;
      const named = this.#ruleOf(text);
      if (named.body !== null) throw new GrammarFault(`rule ${text} is defined twice`);
      named.body = this.#alternatives();
    }
    for (const { body, name } of this.#rules.values()) {
      if (body === null) throw new GrammarFault(`rule ${name} is used and not defined`);
    }
    const start = this.#rules.get(root);
    if (start === undefined) throw new GrammarFault(`there is no rule ${root}`);
    return start;
  }

  get #now(): Token {
    return this.#tokens[this.#at]!;
  }

  #ruleOf(name: string): Rule {
    let named = this.#rules.get(name);
    if (named === undefined) {
      if (this.#rules.size >= MAX_RULES) throw new GrammarFault(`more than ${MAX_RULES} rules`);
      named = rule(name);
      this.#rules.set(name, named);
    }
    return named;
  }

  #alternatives(): Expression {
    const alternatives = [this.#sequence()];
    while (this.#skip('|')) alternatives.push(this.#sequence());
    return choice(...alternatives);
  }

  #sequence(): Expression {
    const items: Expression[] = [];
    while (!this.#now.isHead && this.#now.text !== '|' && this.#now.text !== ')') {
      items.push(this.#counted(this.#atom()));
    }
    return sequence(...items);
  }

  #counted(item: Expression): Expression {
    let counted = item;
    for (;;) {
      if (this.#skip('*')) counted = repeat(counted, 0);
      else if (this.#skip('+')) counted = repeat(counted, 1);
      else if (this.#skip('?')) counted = repeat(counted, 0, 1);
      else if (this.#now.kind === 'count') counted = this.#count(counted);
      else return counted;
    }
  }

  #count(item: Expression): Expression {
    const [, least, comma, most] = /\{\s*(\d+)\s*(,?)\s*(\d*)\s*\}/.exec(this.#now.text)!;
    const from = Number(least);
    const to = comma === '' ? from : most === '' ? Number.POSITIVE_INFINITY : Number(most);
    if (Math.max(from, Number.isFinite(to) ? to : 0) > MAX_COUNT || from > to) {
      throw this.#fault(`counts go up to ${MAX_COUNT}, in order`);
    }
    this.#at++;
    return repeat(item, from, to);
  }

  #atom(): Expression {
    const token = this.#now;
    this.#at++;
    switch (token.kind) {
      case 'name':
        return this.#ruleOf(token.text);
      case 'text':
        return literal(unescaped(token));
      case 'class':
        return fromRegex(token);
      case 'sign':
        if (token.text === '.') return fromRegex({ ...token, text: '[^]' });
        if (token.text === '(') return this.#group();
    }
    this.#at--;
    throw this.#fault(`${token.text} is not expected`);
  }

  #group(): Expression {
    if (++this.#depth > MAX_DEPTH) throw this.#fault(`groups more than ${MAX_DEPTH} deep`);
    const body = this.#alternatives();
    if (!this.#skip(')')) throw this.#fault(') is missing');
    this.#depth--;
    return body;
  }

  #skip(text: string): boolean {
    const token = this.#now;
    if (token.kind !== 'sign' || token.text !== text) return false;
    this.#at++;
    return true;
  }

  #fault(what: string): GrammarFault {
    return new GrammarFault(`line ${this.#now.line}: ${what}`);
  }
}

const ESCAPES: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t', '0': '\0' };

function unescaped({ line, text }: Token): string {
  return text
    .slice(1, -1)
    .replace(/\\(?:x([\da-fA-F]{2})|u([\da-fA-F]{4})|U([\da-fA-F]{8})|(.))/gsu, (_, x, u, long, char) => {
      const hex = (x ?? u ?? long) as string | undefined;
      if (hex === undefined) return ESCAPES[char as string] ?? (char as string);
      const code = Number.parseInt(hex, 16);
      if (code > 0x10ffff) throw new GrammarFault(`line ${line}: \\U${hex} is no character`);
      return String.fromCodePoint(code);
    });
}

function fromRegex({ line, text }: Token): Expression {
  try {
    return regexExpression(text.replace(/\\U([\da-fA-F]{8})/g, '\\u{$1}').replace(/\\u\{0+/g, '\\u{0'), {
      whole: true,
    });
  } catch (error) {
    if (error instanceof RegexFault) throw new GrammarFault(`line ${line}: ${text}: ${error.message}`);
    throw error;
  }
}
