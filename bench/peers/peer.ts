/** What a contest needs of the other side: a process that opens sequences, and times prefills and decode steps when it is told to. */
export interface OpenedWork {
  name: string;
  sequences: number;
  /** Tokens of prompt of each sequence. */
  context: number;
  /** Positions of each sequence. */
  capacity: number;
  /** One of the peer's. */
  variant: string;
}

export interface Peer {
  readonly name: string;
  readonly pid: number;
  /** How it was built. */
  readonly info: string;
  /** Ways to do the same: the contest takes what is fastest. */
  readonly variants: readonly string[];
  open(work: OpenedWork): Promise<void>;
  /** Milliseconds a step. */
  decodeMs(name: string, steps: number): Promise<number>;
  prefillMs(name: string, tokens: number): Promise<number>;
  /** Every sequence is after its prompt again. */
  rewind(name: string): Promise<void>;
  close(name: string): Promise<void>;
  stop(): void;
}
