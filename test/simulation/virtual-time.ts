/**
 * Time of a whole process that passes only when everybody waits: timers, the clocks and what is built on them.
 *
 * In      setTimeout, setInterval, performance.now and Date.now of anybody, from install() on
 * Out     run(): the next timer's time becomes now, over and over
 * Limits  this thread; nothing may wait for a file or a socket meanwhile. uninstall() gives the real ones back
 * Errors  what a timer's function throws, run() throws
 */
interface Timer {
  timeMs: number;
  order: number;
  everyMs: number | null;
  action: () => void;
  live: boolean;
  /** Set by what is simulated, not by who simulates. */
  counts: boolean;
}

/** As Node has it: who asks for it gets something. */
interface Handle {
  timer: Timer;
  ref(): Handle;
  unref(): Handle;
  hasRef(): boolean;
}

const EPOCH_MS = Date.UTC(2026, 0, 1);
const REPLACED = ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval'] as const;

export class VirtualTime {
  #nowMs = 0;
  #order = 0;
  /** A heap by time, then by order. */
  readonly #timers: Timer[] = [];
  #live = 0;
  readonly #real = new Map<string, unknown>();
  readonly #realImmediate = setImmediate;

  get nowMs(): number {
    return this.#nowMs;
  }

  /** Timers that what is simulated has set and not called off. */
  get pending(): number {
    return this.#live;
  }

  install(): void {
    const globals = globalThis as unknown as Record<string, unknown>;
    for (const name of REPLACED) this.#real.set(name, globals[name]);
    this.#real.set('now', performance.now);
    this.#real.set('Date.now', Date.now);
    const set =
      (everyMs: (ms: number) => number | null) =>
      (action: (...args: unknown[]) => void, ms = 0, ...args: unknown[]) =>
        this.#handle(this.#add(Math.max(0, ms), everyMs(ms), () => action(...args), true));
    const clear = (handle: Handle | undefined): void => this.#clear(handle?.timer);
    globals.setTimeout = set(() => null);
    globals.setInterval = set((ms) => Math.max(1, ms));
    globals.clearTimeout = clear;
    globals.clearInterval = clear;
    performance.now = () => this.#nowMs;
    Date.now = () => EPOCH_MS + Math.floor(this.#nowMs);
  }

  uninstall(): void {
    const globals = globalThis as unknown as Record<string, unknown>;
    for (const name of REPLACED) globals[name] = this.#real.get(name);
    performance.now = this.#real.get('now') as typeof performance.now;
    Date.now = this.#real.get('Date.now') as typeof Date.now;
  }

  after(ms: number, action: () => void): void {
    this.#add(ms, null, action, false);
  }

  /** Until `isDone`, or nobody has set a timer any more, or it is `endMs`. @param each after everything that has happened */
  async run(isDone: () => boolean, endMs: number, each: () => void): Promise<void> {
    await this.#settle();
    each();
    while (!isDone()) {
      const timer = this.#pop();
      if (timer === undefined || timer.timeMs > endMs) return;
      if (!timer.live) continue;
      this.#nowMs = Math.max(this.#nowMs, timer.timeMs);
      if (timer.everyMs === null) {
        timer.live = false;
        if (timer.counts) this.#live--;
      } else {
        timer.timeMs = this.#nowMs + timer.everyMs;
        timer.order = this.#order++;
        this.#push(timer);
      }
      timer.action();
      await this.#settle();
      each();
    }
  }

  /** All promises that can go on have gone on. */
  #settle(): Promise<void> {
    return new Promise((resolve) => this.#realImmediate(resolve));
  }

  #handle(timer: Timer): Handle {
    const handle: Handle = { timer, ref: () => handle, unref: () => handle, hasRef: () => true };
    return handle;
  }

  #add(ms: number, everyMs: number | null, action: () => void, counts: boolean): Timer {
    const timer = { timeMs: this.#nowMs + ms, order: this.#order++, everyMs, action, live: true, counts };
    if (counts) this.#live++;
    this.#push(timer);
    return timer;
  }

  #clear(timer: Timer | undefined): void {
    if (!timer?.live) return;
    timer.live = false;
    this.#live--;
  }

  #push(timer: Timer): void {
    const timers = this.#timers;
    let at = timers.push(timer) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(timers[at]!, timers[parent]!)) break;
      [timers[at], timers[parent]] = [timers[parent]!, timers[at]!];
      at = parent;
    }
  }

  #pop(): Timer | undefined {
    const timers = this.#timers;
    const first = timers[0];
    const last = timers.pop();
    if (first === last || last === undefined) return first;
    timers[0] = last;
    for (let at = 0; ; ) {
      const left = 2 * at + 1;
      let least = at;
      if (left < timers.length && isBefore(timers[left]!, timers[least]!)) least = left;
      if (left + 1 < timers.length && isBefore(timers[left + 1]!, timers[least]!)) least = left + 1;
      if (least === at) return first;
      [timers[at], timers[least]] = [timers[least]!, timers[at]!];
      at = least;
    }
  }
}

const isBefore = (a: Timer, b: Timer): boolean =>
  a.timeMs < b.timeMs || (a.timeMs === b.timeMs && a.order < b.order);
