/**
 * One function call as a JSON object, {"name": …, "arguments" or "parameters": …}, while it is being written.
 *
 * In      the text, cut anywhere, from its `{` on
 * Out     the name as soon as it is known; the arguments as the model writes them, piece by piece: of arguments that stand before the name,
 *         all at once. Arguments that are a JSON string are what it says; none at all are {}
 * Limits  MAX_HELD_CHARACTERS before the name: then it is no call
 * Errors  `bad`: no call. What was read of it is in `raw` while no name was told
 */

const MAX_HELD_CHARACTERS = 1 << 20;
const ARGUMENT_KEYS = new Set(['arguments', 'parameters']);
const SPACE = /\s/;

type State = 'start' | 'key' | 'colon' | 'value' | 'in-value' | 'next' | 'done' | 'bad';

export class JsonCall {
  state: State = 'start';
  /** null: not known yet. */
  name: string | null = null;
  /** All of the text, until the name is told. */
  raw = '';
  #key = '';
  #value = '';
  /** Brackets that are open within a value. */
  #depth = 0;
  #inString = false;
  #isEscaped = false;
  /** Arguments that wait for the name, or to be fetched. */
  #arguments = '';
  #hasArguments = false;

  /** @returns how many characters belong to the call; fewer than there are when it is done or bad */
  push(text: string): number {
    for (let at = 0; at < text.length; at++) {
      if (this.state === 'done' || this.state === 'bad') return at;
      this.#take(text[at]!);
      if (this.name === null) this.raw += text[at]!;
      if (this.raw.length > MAX_HELD_CHARACTERS) this.state = 'bad';
    }
    return text.length;
  }

  /** Arguments that can be told now; '' until the name is known. */
  takeArguments(): string {
    if (this.name === null) return '';
    const text = this.#arguments;
    this.#arguments = '';
    return text;
  }

  #take(char: string): void {
    if (this.state === 'in-value') {
      this.#takeValue(char);
      return;
    }
    if (SPACE.test(char)) return;
    switch (this.state) {
      case 'start':
        this.state = char === '{' ? 'key' : 'bad';
        return;
      case 'key':
        if (char === '"') this.#begin(char);
        else if (char === '}') this.#end();
        else this.state = 'bad';
        return;
      case 'colon':
        this.state = char === ':' ? 'value' : 'bad';
        return;
      case 'value':
        this.#begin(char);
        return;
      case 'next':
        if (char === ',') this.state = 'key';
        else if (char === '}') this.#end();
        else this.state = 'bad';
    }
  }

  #isKey = false;

  #begin(char: string): void {
    this.#isKey = this.state === 'key';
    this.#value = '';
    this.#depth = 0;
    this.#inString = false;
    this.state = 'in-value';
    this.#takeValue(char);
  }

  #takeValue(char: string): void {
    if (this.#inString) {
      this.#keep(char);
      if (this.#isEscaped) this.#isEscaped = false;
      else if (char === '\\') this.#isEscaped = true;
      else if (char === '"') {
        this.#inString = false;
        if (this.#depth === 0) this.#endValue();
      }
      return;
    }
    if (this.#depth === 0 && this.#value !== '' && (char === ',' || char === '}' || SPACE.test(char))) {
      // A number or a word ends with what follows it.
      this.#endValue();
      this.#take(char);
      return;
    }
    this.#keep(char);
    if (char === '"') this.#inString = true;
    else if (char === '{' || char === '[') this.#depth++;
    else if (char === '}' || char === ']') {
      this.#depth--;
      if (this.#depth < 0) this.state = 'bad';
      else if (this.#depth === 0) this.#endValue();
    }
  }

  #keep(char: string): void {
    this.#value += char;
    // Objects are told as they are written.
    if (!this.#isKey && ARGUMENT_KEYS.has(this.#key) && this.#value[0] === '{') this.#arguments += char;
  }

  #endValue(): void {
    const value = parsed(this.#value);
    if (this.#isKey) {
      this.state = typeof value === 'string' ? 'colon' : 'bad';
      this.#key = String(value);
      return;
    }
    this.state = 'next';
    if (this.#key === 'name') {
      if (typeof value !== 'string' || value === '') this.state = 'bad';
      else this.name ??= value;
    } else if (ARGUMENT_KEYS.has(this.#key)) {
      this.#hasArguments = true;
      if (typeof value === 'string') this.#arguments += value;
      else if (this.#value[0] !== '{') this.#arguments += value === null ? '{}' : this.#value;
    }
  }

  #end(): void {
    this.state = this.name === null ? 'bad' : 'done';
    if (!this.#hasArguments) this.#arguments += '{}';
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
