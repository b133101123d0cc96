/**
 * Numbers that know their unit: to the compiler a millisecond is no second and no byte.
 *
 * In      plain numbers where they are measured or read
 * Out     branded numbers; the unit's sign for people stands in one table, never in a header that is read back
 * Why     the tool that this one answers to parsed "(ns)", divided by 1000 and printed "(ms)": a target of 100 ms meant 100 µs
 */
declare const unit: unique symbol;
export type Quantity<U extends string> = number & { readonly [unit]: U };

export type Milliseconds = Quantity<'ms'>;
export type PerSecond = Quantity<'per second'>;
export type TokensPerSecond = Quantity<'tokens per second'>;
export type Bytes = Quantity<'bytes'>;
export type Cores = Quantity<'cores'>;
export type Share = Quantity<'share'>;
export type Count = Quantity<'count'>;
/** In whatever money a price was given. */
export type Money = Quantity<'money'>;
export type Watts = Quantity<'watts'>;

export const milliseconds = (value: number): Milliseconds => value as Milliseconds;
export const perSecond = (value: number): PerSecond => value as PerSecond;
export const tokensPerSecond = (value: number): TokensPerSecond => value as TokensPerSecond;
export const bytes = (value: number): Bytes => value as Bytes;
export const cores = (value: number): Cores => value as Cores;
export const share = (value: number): Share => value as Share;
export const count = (value: number): Count => value as Count;
export const money = (value: number): Money => value as Money;
export const watts = (value: number): Watts => value as Watts;
